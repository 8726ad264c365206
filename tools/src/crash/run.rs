//! The crash test's cycles: serve, kill, perhaps kill again while it starts, serve.
//!
//! A *generation* of topics and writers lasts a number of cycles, so that what there is to
//! read stays small, however many cycles there are; then everything that was sent must be
//! acknowledged and there, and the topics are deleted.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millrace_client::{Client, ClientError, ConnectOptions, LogId, PartitionId, Topic, Trust};
use tokio::task::JoinHandle;

use super::follower::Followers;
use super::plan::{Check, Cycle};
use super::reader::check_everything;
use super::writers::{SharedLedger, Writers, WrittenTopic};
use crate::broker::{BrokerCommand, BrokerProcess};

/// Cycles that a generation of topics lasts.
const GENERATION_CYCLES: u64 = 12;

/// How long the broker may take, once it serves, until a writer has something acknowledged.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often that is looked at.
const WRITE_POLL: Duration = Duration::from_millis(2);

/// A handshake that a kill has cut off is given up soon, and tried again soon: otherwise most
/// kills would meet a broker that no client has found yet.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const RECONNECT_BACKOFF: Duration = Duration::from_millis(5);
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_millis(40);

/// A topic's name, its partitions and its settings.
type TopicSpec = (&'static str, u32, &'static [(&'static str, &'static str)]);

/// The topics of a generation. Segments as small as they may be, so that kills
/// meet every step of a segment's life, and large ones, so that recovery scans much.
const TOPICS: [TopicSpec; 3] = [
    ("small-segments", 3, &[("segment.bytes", "65536")]),
    ("large-segments", 2, &[]),
    (
        "one-partition",
        1,
        &[("segment.bytes", "262144"), ("flush.ms", "5")],
    ),
];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's binary.
    pub bin: PathBuf,
    /// An empty directory for the data and the broker's log. It is left behind.
    pub dir: PathBuf,
    /// How many cycles.
    pub cycles: u64,
    /// Of the plan and the records.
    pub seed: u64,
    /// How many writers.
    pub writers: usize,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Cycles.
    pub cycles: u64,
    /// Times that the broker was killed.
    pub kills: u64,
    /// Of those, during a start.
    pub kills_during_start: u64,
    /// Times that everything was read and compared.
    pub checks: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records read and compared, each as often as it was.
    pub records_checked: u64,
    /// The longest time from start to ready.
    pub longest_start: Duration,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cycles, {} kills ({} of them during a start), {} records acknowledged, {} \
             checks over {} records, ready in {} ms at most",
            self.cycles,
            self.kills,
            self.kills_during_start,
            self.acknowledged,
            self.checks,
            self.records_checked,
            self.longest_start.as_millis()
        )
    }
}

/// Why the test failed, in words for the engineer who repeats it.
#[derive(Clone, Debug)]
pub struct Failed {
    /// In which cycle, counted from 0.
    pub cycle: u64,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {}: {}", self.cycle, self.what)
    }
}

impl std::error::Error for Failed {}

/// The crash test.
#[derive(Debug)]
pub struct CrashTest {
    options: Options,
    rng: Rng,
    command: BrokerCommand,
    /// How long the last start took until the broker served.
    usual_start: Duration,
    totals: Totals,
}

struct Generation {
    client: Client,
    topics: Vec<WrittenTopic>,
    ledger: SharedLedger,
    writers: Writers,
    followers: Followers,
}

impl CrashTest {
    /// A test with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let command = BrokerCommand {
            bin: options.bin.clone(),
            data_dir: options.dir.join("data"),
            quic: SocketAddr::from(([127, 0, 0, 1], 0)),
            log_file: options.dir.join("broker.log"),
            args: ["--http", "127.0.0.1:0", "--kafka", "none"]
                .map(Into::into)
                .to_vec(),
        };
        let rng = Rng::with_seed(options.seed);
        let usual_start = Duration::ZERO;
        Self {
            options,
            rng,
            command,
            usual_start,
            totals: Totals::default(),
        }
    }

    /// Runs all cycles, telling `progress` after each.
    ///
    /// # Errors
    /// The first thing that is wrong. The directory then shows the rest.
    pub async fn run(mut self, mut progress: impl FnMut(&Totals)) -> Result<Totals, Failed> {
        let outcome = self.run_cycles(&mut progress).await;
        outcome.map_err(|what| Failed {
            cycle: self.totals.cycles,
            what,
        })?;
        Ok(self.totals)
    }

    async fn run_cycles(&mut self, progress: &mut impl FnMut(&Totals)) -> Result<(), String> {
        let mut broker = self.start().await?;
        while self.totals.cycles < self.options.cycles {
            let mut generation = self.begin_generation().await.map_err(in_words)?;
            for _ in 0..GENERATION_CYCLES.min(self.options.cycles - self.totals.cycles) {
                broker = self.cycle(broker, &mut generation).await?;
                self.totals.cycles += 1;
                progress(&self.totals);
            }
            self.end_generation(generation).await?;
        }
        broker.stop().map_err(in_words)
    }

    async fn cycle(
        &mut self,
        broker: BrokerProcess,
        generation: &mut Generation,
    ) -> Result<BrokerProcess, String> {
        let plan = Cycle::random(&mut self.rng);
        if plan.await_writers {
            generation.await_writers().await?;
        }
        tokio::time::sleep(plan.run).await;
        let mut interrupted = None;
        match plan.check {
            Check::Skip => {}
            Check::Whole => self.checked(generation.check().await)?,
            Check::Interrupted => {
                interrupted = Some(generation.check());
                tokio::time::sleep(plan.run.mul_f64(self.rng.f64() / 4.0)).await;
            }
        }
        broker.kill().map_err(in_words)?;
        for &share in &plan.early_kills {
            let broker = self.command.spawn().map_err(in_words)?;
            tokio::time::sleep(self.usual_start.mul_f64(share)).await;
            broker.kill().map_err(in_words)?;
            self.totals.kills_during_start += 1;
        }
        self.totals.kills += plan.kills();
        let broker = self.start().await?;
        if let Some(check) = interrupted {
            self.checked(check.await)?;
        }
        generation.writers.failure().await?;
        Ok(broker)
    }

    async fn start(&mut self) -> Result<BrokerProcess, String> {
        let started = Instant::now();
        let (broker, address) = self.command.start().await.map_err(in_words)?;
        self.command.quic = address;
        self.usual_start = started.elapsed();
        self.totals.longest_start = self.totals.longest_start.max(self.usual_start);
        Ok(broker)
    }

    async fn begin_generation(&mut self) -> Result<Generation, ClientError> {
        let trust = Trust::FirstUse(self.options.dir.join("known_brokers"));
        let mut connect = ConnectOptions::new(self.command.quic, trust);
        connect.connect_timeout = CONNECT_TIMEOUT;
        connect.reconnect_backoff = RECONNECT_BACKOFF;
        connect.reconnect_backoff_max = RECONNECT_BACKOFF_MAX;
        let client = Client::connect(connect.clone()).await?;
        let mut topics = Vec::new();
        let mut first_partition = 0;
        for (name, partitions, configs) in TOPICS {
            let name = format!("{name}-{}", self.totals.cycles);
            client
                .create_topic(&name, Some(partitions), configs)
                .await?;
            topics.push(WrittenTopic {
                name,
                first_partition,
                partitions,
            });
            first_partition += partitions as usize;
        }
        let ledger = SharedLedger::default();
        let count = self.options.writers;
        let writers = Writers::start(count, &connect, &topics, &ledger, &mut self.rng).await?;
        Ok(Generation {
            followers: Followers::start(&client, &topics),
            client,
            topics,
            ledger,
            writers,
        })
    }

    async fn end_generation(&mut self, generation: Generation) -> Result<(), String> {
        let Generation {
            client,
            topics,
            ledger,
            writers,
            followers,
        } = generation;
        if let Err(error) = writers.finish().await {
            let state = self.describe(&client, &topics, &ledger).await;
            return Err(format!("a writer failed: {error}\n{state}"));
        }
        let sent: u64 = ledger.with(|l| l.lanes.iter().map(|lane| lane.sent.len() as u64).sum());
        let acknowledged = ledger.with(|ledger| ledger.acknowledged());
        if acknowledged != sent {
            return Err(format!(
                "{sent} records were sent and {acknowledged} acknowledged"
            ));
        }
        self.totals.acknowledged += acknowledged;
        followers.finish(&ledger).await?;
        let read = check_everything(client.clone(), topics.clone(), ledger).await?;
        self.totals.checks += 1;
        self.totals.records_checked += read;
        if read != sent {
            return Err(format!(
                "{sent} records were acknowledged and {read} are there"
            ));
        }
        for topic in topics {
            client.delete_topic(&topic.name).await.map_err(in_words)?;
        }
        Ok(())
    }

    /// The state of a broker that serves and yet does not acknowledge, for the engineer who
    /// looks for the reason. Its metrics are kept beside its log.
    async fn describe(
        &self,
        client: &Client,
        topics: &[WrittenTopic],
        ledger: &SharedLedger,
    ) -> String {
        let mut text = String::new();
        let ledger = ledger.snapshot();
        for (id, count) in ledger.awaiting() {
            let partition = ledger.lanes[id.lane as usize].partition;
            text += &format!(
                "  lane {} into partition {partition} awaits {count} from record {} on\n",
                id.lane, id.number
            );
        }
        for topic in topics {
            for number in 0..topic.partitions {
                let state = match client.topic(&topic.name).await {
                    Ok(Topic { id, .. }) => {
                        let log = LogId {
                            topic: id,
                            partition: PartitionId(number),
                        };
                        client.describe_partition(log).await
                    }
                    Err(error) => Err(error),
                };
                let index = topic.first_partition + number as usize;
                text += &format!("  partition {index}, {}-{number}: {state:?}\n", topic.name);
            }
        }
        let metrics = client.metrics().await.unwrap_or_else(in_words);
        let kept = std::fs::write(self.options.dir.join("metrics.txt"), metrics);
        kept.map_or_else(in_words, |()| text)
    }

    fn checked(
        &mut self,
        outcome: Result<Result<u64, String>, tokio::task::JoinError>,
    ) -> Result<(), String> {
        let read = outcome.map_err(|panic| format!("the check failed: {panic}"))??;
        self.totals.checks += 1;
        self.totals.records_checked += read;
        Ok(())
    }
}

impl Generation {
    /// Waits until the broker acknowledges something.
    async fn await_writers(&mut self) -> Result<(), String> {
        let before = self.ledger.with(|ledger| ledger.acknowledged());
        let deadline = Instant::now() + WRITE_TIMEOUT;
        while self.ledger.with(|ledger| ledger.acknowledged()) == before {
            self.writers.failure().await?;
            if Instant::now() > deadline {
                return Err("nothing is acknowledged any more".into());
            }
            tokio::time::sleep(WRITE_POLL).await;
        }
        Ok(())
    }

    fn check(&self) -> JoinHandle<Result<u64, String>> {
        let (client, ledger) = (self.client.clone(), self.ledger.clone());
        tokio::spawn(check_everything(client, self.topics.clone(), ledger))
    }
}

fn in_words(error: impl fmt::Display) -> String {
    error.to_string()
}
