//! The crash test of topics that come and go: the broker is killed while topics are created
//! and deleted.
//!
//! After each restart a topic is whole or gone:
//! - one whose creation was answered exists, unless its deletion was asked for since;
//! - one whose deletion was answered does not exist, unless its creation was asked for since;
//! - one whose request was cut off by the kill is either;
//! - each that exists takes a record in every partition and gives it back;
//! - no directory remains of one that does not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use fastrand::Rng;
use millrace_client::{
    Client, ClientError, ConnectOptions, ConsumerOptions, ErrorCode, OffsetSpec, PartitionId,
    ProducerOptions, ProducerRecord, Topic, Trust,
};
use tokio::task::JoinSet;

use super::run::{Failed, Options, Totals};
use crate::broker::{BrokerCommand, BrokerProcess};

/// Names that are created and deleted over and over.
const NAMES: usize = 12;

/// Tasks that create and delete at the same time, each with names of its own.
const CHURNERS: usize = 4;

/// The most partitions of a topic.
const MAX_PARTITIONS: u32 = 4;

/// The longest that the broker runs before it is killed.
const MAX_RUN: Duration = Duration::from_millis(150);

/// How long a request may take. A kill cuts requests off, and the next cycle need not wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the directories of deleted topics may remain after a start.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often they are looked for.
const CLEANUP_POLL: Duration = Duration::from_millis(20);

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Exists,
    Gone,
    Either,
}

type Names = Arc<Mutex<BTreeMap<String, Known>>>;

/// The crash test of topics that come and go.
#[derive(Debug)]
pub struct ChurnTest {
    options: Options,
    rng: Rng,
    command: BrokerCommand,
    names: Names,
    totals: Totals,
}

impl ChurnTest {
    /// A test with these options; `writers` is not used.
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
        let names = (0..NAMES)
            .map(|index| (format!("churn-{index}"), Known::Gone))
            .collect();
        Self {
            rng: Rng::with_seed(options.seed),
            options,
            command,
            names: Arc::new(Mutex::new(names)),
            totals: Totals::default(),
        }
    }

    /// Runs all cycles, telling `progress` after each.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn run(mut self, mut progress: impl FnMut(&Totals)) -> Result<Totals, Failed> {
        while self.totals.cycles < self.options.cycles {
            let outcome = self.cycle().await;
            outcome.map_err(|what| Failed {
                cycle: self.totals.cycles,
                what,
            })?;
            self.totals.cycles += 1;
            progress(&self.totals);
        }
        Ok(self.totals)
    }

    /// Start, check what is there, create and delete until the kill.
    async fn cycle(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let (broker, address) = self.command.start().await.map_err(in_words)?;
        self.totals.longest_start = self.totals.longest_start.max(started.elapsed());
        self.command.quic = address;
        let trust = Trust::FirstUse(self.options.dir.join("known_brokers"));
        let mut connect = ConnectOptions::new(address, trust);
        connect.request_timeout = REQUEST_TIMEOUT;
        let client = Client::connect(connect).await.map_err(in_words)?;
        self.check(&client).await?;
        self.churn_until_killed(&client, broker).await
    }

    async fn churn_until_killed(
        &mut self,
        client: &Client,
        broker: BrokerProcess,
    ) -> Result<(), String> {
        let mut churners = JoinSet::new();
        for index in 0..CHURNERS {
            let (client, names, rng) = (client.clone(), Arc::clone(&self.names), self.rng.fork());
            churners.spawn(churn(client, names, index, rng));
        }
        tokio::time::sleep(MAX_RUN.mul_f64(self.rng.f64())).await;
        broker.kill().map_err(in_words)?;
        self.totals.kills += 1;
        // What is still under way ends as cut off: the name's state is `Either` by then.
        churners.abort_all();
        while let Some(ended) = churners.join_next().await {
            match ended {
                Ok(Err(what)) => return Err(what),
                Err(error) if error.is_panic() => return Err(in_words(error)),
                Ok(Ok(())) | Err(_) => {}
            }
        }
        Ok(())
    }

    async fn check(&mut self, client: &Client) -> Result<(), String> {
        let metadata = client.metadata(None).await.map_err(in_words)?;
        let exists = |name: &str| metadata.topics.iter().any(|topic| topic.name == name);
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, known) in names.iter_mut() {
                let found = if exists(name) {
                    Known::Exists
                } else {
                    Known::Gone
                };
                if *known != Known::Either && *known != found {
                    return Err(format!("topic {name} should be {known:?} and is {found:?}"));
                }
                *known = found;
            }
        }
        for topic in &metadata.topics {
            let whole = is_whole(client, topic).await;
            whole.map_err(|error| format!("topic {} is not whole: {error}", topic.name))?;
            self.totals.acknowledged += u64::from(topic.partitions());
        }
        self.totals.checks += 1;
        self.no_orphans(&metadata.topics).await
    }

    /// Waits until only directories of these topics are left.
    async fn no_orphans(&self, topics: &[Topic]) -> Result<(), String> {
        let deadline = Instant::now() + CLEANUP_TIMEOUT;
        loop {
            let orphans = orphans(&self.command.data_dir.join("logs"), topics)?;
            if orphans.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("directories of deleted topics remain: {orphans:?}"));
            }
            tokio::time::sleep(CLEANUP_POLL).await;
        }
    }
}

/// Creates and deletes the names of one churner until something is cut off.
async fn churn(client: Client, names: Names, index: usize, mut rng: Rng) -> Result<(), String> {
    let ours = |number: usize| number % CHURNERS == index;
    let set = |name: &str, known| {
        names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.into(), known)
    };
    loop {
        let number = rng.usize(..NAMES);
        if !ours(number) {
            continue;
        }
        let name = format!("churn-{number}");
        let existed = set(&name, Known::Either) == Some(Known::Exists);
        let outcome = if existed {
            client.delete_topic(&name).await
        } else {
            let partitions = rng.u32(1..=MAX_PARTITIONS);
            let created = client.create_topic(&name, Some(partitions), &[]).await;
            created.map(|_| ())
        };
        match outcome {
            Ok(()) => drop(set(
                &name,
                if existed { Known::Gone } else { Known::Exists },
            )),
            Err(ClientError::Broker { code, message }) => {
                return Err(format!(
                    "{name} existed: {existed}, and yet {code}: {message}"
                ));
            }
            Err(_) => return Ok(()),
        }
        if !existed && rng.bool() {
            // Some topics have data when they go.
            let _ = is_whole_named(&client, &name).await;
        }
    }
}

async fn is_whole_named(client: &Client, name: &str) -> Result<(), ClientError> {
    let topics = client.metadata(Some(&[name])).await?.topics;
    match topics.first() {
        Some(topic) => is_whole(client, topic).await,
        None => Err(ClientError::Broker {
            code: ErrorCode::UnknownTopicOrPartition,
            message: "the topic is missing from the metadata".into(),
        }),
    }
}

/// Sends a record to every partition and reads it back.
async fn is_whole(client: &Client, topic: &Topic) -> Result<(), ClientError> {
    let producer = client.producer(ProducerOptions::new(&topic.name)).await?;
    for partition in 0..topic.partitions() {
        let record = ProducerRecord::new("whole").to_partition(PartitionId(partition));
        let stored = producer.send(record).await?.await?;
        let from = stored.offset.map_or(OffsetSpec::Earliest, OffsetSpec::At);
        let options = ConsumerOptions::new(&topic.name)
            .partitions([stored.partition])
            .from(from);
        let mut consumer = client.consumer(options).await?;
        let read = consumer.next_before_end().await?;
        if read.and_then(|record| record.value).as_deref() != Some(b"whole") {
            return Err(ClientError::Protocol(format!(
                "partition {partition} gave nothing back"
            )));
        }
    }
    producer.close().await;
    Ok(())
}

/// Directories under `logs` that belong to none of these topics.
fn orphans(logs: &PathBuf, topics: &[Topic]) -> Result<Vec<String>, String> {
    let entries = match std::fs::read_dir(logs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(in_words)?,
    };
    let mut orphans = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(in_words)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let id = name.rsplit_once('-').map(|(id, _)| id.to_owned());
        if topics
            .iter()
            .all(|topic| id.as_deref() != Some(&topic.id.to_string()))
        {
            orphans.push(name);
        }
    }
    Ok(orphans)
}

fn in_words(error: impl fmt::Display) -> String {
    error.to_string()
}
