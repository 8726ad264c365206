//! Consumer groups of the native protocol against the real broker: `millctl group`, and members that
//! come, go and crash.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace_client::{
    Client, CommitMode, GroupConsumer, GroupOptions, PartitionId, ProducerOptions, ProducerRecord,
};
use serde_json::Value;
use support::TestBroker;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short, so that tests are.
const SETTINGS: [&str; 4] = [
    "--group-consumer-heartbeat-interval-ms",
    "100",
    "--group-consumer-session-timeout-ms",
    "1500",
];

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Runs until this gives something.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never happens");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn describe(broker: &TestBroker, group: &str) -> Value {
    json(&broker.ok(&["group", "describe", group, "--json"], b""))
}

/// Topic, partition and this number of each line.
fn column(rows: &Value, name: &str) -> Vec<Option<u64>> {
    let rows = rows.as_array().unwrap();
    rows.iter().map(|row| row[name].as_u64()).collect()
}

#[test]
fn a_group_is_listed_described_and_resumed() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "2"], b"");
    assert_eq!(
        json(&broker.ok(&["group", "list", "--json"], b"")),
        Value::Array(vec![])
    );
    broker.fails(3, &["group", "describe", "g"], b"");
    broker.ok(&["produce", "t", "--partition", "0"], b"a\nb\nc\n");
    broker.ok(&["produce", "t", "--partition", "1"], b"d\n");
    let consume = ["consume", "t", "--group", "g"];
    let mut lines: Vec<_> = text(broker.ok(&consume, b""))
        .lines()
        .map(String::from)
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a", "b", "c", "d"]);
    assert_eq!(text(broker.ok(&consume, b"")), "", "all is committed");

    broker.ok(&["produce", "t", "--partition", "0"], b"e\nf\ng\n");
    let described = describe(&broker, "g");
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["type"], "consumer");
    assert_eq!(
        column(&described["offsets"], "committed"),
        [Some(3), Some(1)]
    );
    assert_eq!(
        column(&described["offsets"], "high_watermark"),
        [Some(6), Some(1)]
    );
    assert_eq!(column(&described["offsets"], "lag"), [Some(3), Some(0)]);
    let shown = text(broker.ok(&["group", "describe", "g"], b""));
    assert!(
        shown.contains("state     Empty") && shown.contains("HIGH WATERMARK"),
        "{shown}"
    );
    let listed = json(&broker.ok(&["group", "list", "--state", "empty", "--json"], b""));
    assert_eq!(listed[0]["group"], "g");
    let stable = broker.ok(&["group", "list", "--state", "Stable", "--json"], b"");
    assert_eq!(json(&stable), Value::Array(vec![]));

    // Exactly what was asked for is committed.
    let one = [&consume[..], &["--count", "1"]].concat();
    assert_eq!(text(broker.ok(&one, b"")), "e\n");
    assert_eq!(text(broker.ok(&one, b"")), "f\n");
    assert_eq!(
        column(&describe(&broker, "g")["offsets"], "committed"),
        [Some(5), Some(1)]
    );
    broker.fails(2, &["consume", "t", "--group", "g", "--from", "3"], b"");
    broker.fails(3, &["consume", "nothing", "--group", "g"], b"");
}

#[test]
fn offsets_are_reset_everywhere_once_it_is_meant() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "2"], b"");
    broker.ok(&["topic", "create", "u", "--partitions", "1"], b"");
    broker.ok(&["produce", "t", "--partition", "0"], &b"x\n".repeat(10));
    broker.ok(&["produce", "t", "--partition", "1"], &b"x\n".repeat(4));
    broker.ok(&["produce", "u"], &b"x\n".repeat(2));
    for topic in ["t", "u"] {
        broker.ok(&["consume", topic, "--group", "g"], b"");
    }
    let delete = [
        "topic",
        "delete-records",
        "t",
        "--partition",
        "0",
        "--before",
        "2",
    ];
    broker.ok(&delete, b"");
    let committed = || column(&describe(&broker, "g")["offsets"], "committed");
    assert_eq!(committed(), [Some(10), Some(4), Some(2)]);
    let reset = |args: &[&str]| {
        let command = ["group", "reset-offsets", "g", "--json"];
        column(&json(&broker.ok(&[&command, args].concat(), b"")), "new")
    };
    let all = "--all-topics";
    assert_eq!(reset(&[all, "--to-earliest"]), [Some(2), Some(0), Some(0)]);
    assert_eq!(
        committed(),
        [Some(10), Some(4), Some(2)],
        "that was only to show"
    );
    assert_eq!(
        reset(&[all, "--shift-by", "-3", "--execute"]),
        [Some(7), Some(1), Some(0)]
    );
    assert_eq!(committed(), [Some(7), Some(1), Some(0)]);
    let one = |to: &[&str]| reset(&[&["--topic", "t:0", "--execute"], to].concat());
    assert_eq!(one(&["--to-offset", "5"]), [Some(5)]);
    assert_eq!(one(&["--to-offset", "99"]), [Some(10)]);
    assert_eq!(one(&["--to-offset", "0"]), [Some(2)]);
    assert_eq!(one(&["--to-datetime", "1970-01-01T00:00:00Z"]), [Some(2)]);
    assert_eq!(one(&["--to-datetime", "9999-01-01T00:00:00Z"]), [Some(10)]);
    assert_eq!(one(&["--by-duration", "1d"]), [Some(2)]);
    assert_eq!(one(&["--to-latest"]), [Some(10)]);
    assert_eq!(committed(), [Some(10), Some(1), Some(0)]);
    assert_eq!(
        text(broker.ok(&["consume", "u", "--group", "g"], b"")),
        "x\nx\n"
    );

    // A group that nobody has used yet.
    let new = [
        "group",
        "reset-offsets",
        "new",
        "--topic",
        "u",
        "--to-latest",
        "--execute",
    ];
    broker.ok(&new, b"");
    assert_eq!(
        text(broker.ok(&["consume", "u", "--group", "new"], b"")),
        ""
    );
    broker.fails(
        3,
        &[
            "group",
            "reset-offsets",
            "g",
            "--topic",
            "no",
            "--to-latest",
        ],
        b"",
    );
    broker.fails(
        3,
        &[
            "group",
            "reset-offsets",
            "g",
            "--topic",
            "t:2",
            "--to-latest",
        ],
        b"",
    );
    broker.fails(
        3,
        &["group", "reset-offsets", "no", all, "--to-latest"],
        b"",
    );
    broker.fails(
        3,
        &[
            "group",
            "reset-offsets",
            "no",
            "--topic",
            "u",
            "--shift-by",
            "1",
        ],
        b"",
    );

    broker.ok(
        &[
            "group",
            "delete-offsets",
            "g",
            "--topic",
            "t:1",
            "--topic",
            "u",
        ],
        b"",
    );
    assert_eq!(committed(), [Some(10)]);
    broker.fails(3, &["group", "delete-offsets", "g", "--topic", "u"], b"");
    broker.ok(&["group", "delete", "g"], b"");
    broker.fails(3, &["group", "describe", "g"], b"");
    broker.fails(3, &["group", "delete", "g"], b"");
}

/// `millctl consume` as a member that goes on, and its lines.
struct Following(Child, std::io::Lines<BufReader<ChildStdout>>);

impl Following {
    fn start(broker: &TestBroker, args: &[&str]) -> Self {
        let command = ["consume", "t", "--group", "g", "--follow"];
        let mut child = broker
            .millctl(&[&command, args].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    fn interrupt(mut self) {
        let kill = std::process::Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        assert_eq!(self.0.wait().unwrap().code(), Some(130));
    }
}

#[test]
fn instances_share_the_partitions_and_nobody_resets_a_group_that_reads() {
    let broker = TestBroker::start_with(&SETTINGS);
    broker.ok(&["topic", "create", "t", "--partitions", "4"], b"");
    let mut first = Following::start(&broker, &["--commit-interval", "50"]);
    broker.ok(&["produce", "t", "--partition", "3"], b"one\n");
    assert_eq!(first.1.next().unwrap().unwrap(), "one");
    let second = Following::start(&broker, &["--instance", "till-1"]);
    let shares = |described: &Value| -> Vec<usize> {
        let members = described["members"].as_array().unwrap();
        let reads = |member: &Value| {
            member["current"][0]["partitions"]
                .as_array()
                .map_or(0, Vec::len)
        };
        members.iter().map(reads).collect()
    };
    let described = eventually("a share for each", || {
        let described = describe(&broker, "g");
        (shares(&described) == [2, 2] && described["state"] == "Stable").then_some(described)
    });
    let rows = described["offsets"].as_array().unwrap();
    let readers: BTreeSet<_> = rows
        .iter()
        .map(|row| row["member"].as_str().unwrap())
        .collect();
    assert_eq!(readers.len(), 2);
    assert_eq!(rows[0]["client_id"], "millctl");
    assert_eq!(rows[0]["host"], "/127.0.0.1");
    let members = text(broker.ok(&["group", "describe", "g", "--members"], b""));
    assert!(
        members.contains("till-1") && members.starts_with("MEMBER"),
        "{members}"
    );

    let reset = [
        "group",
        "reset-offsets",
        "g",
        "--topic",
        "t",
        "--to-earliest",
        "--execute",
    ];
    let error = broker.fails(5, &reset, b"");
    assert!(error.contains("2 members"), "{error}");
    broker.fails(5, &["group", "delete", "g"], b"");
    broker.fails(5, &["group", "delete-offsets", "g", "--topic", "t"], b"");

    // What is committed in the interval shows while they run.
    eventually("a commit", || {
        let described = describe(&broker, "g");
        (column(&described["offsets"], "committed")[3] == Some(1)).then_some(())
    });
    first.interrupt();
    eventually("all for one", || {
        (shares(&describe(&broker, "g")) == [4]).then_some(())
    });
    second.interrupt();
    // A static member is away for a while, then its session ends.
    eventually("an empty group", || {
        (describe(&broker, "g")["state"] == "Empty").then_some(())
    });
    broker.ok(&["group", "delete", "g"], b"");
}

/// Who has seen which record: by partition and offset.
type Seen = Arc<Mutex<BTreeMap<(u32, u64), Vec<&'static str>>>>;

/// A member that reads until it is told to stop.
struct Member {
    client: Client,
    task: tokio::task::JoinHandle<GroupConsumer>,
    stop: Arc<tokio::sync::Notify>,
}

impl Member {
    async fn start(broker: &TestBroker, name: &'static str, seen: &Seen) -> Self {
        let client = Client::connect(broker.options()).await.unwrap();
        let options = GroupOptions {
            client_id: name.to_owned(),
            ..GroupOptions::new("g")
                .pattern("t.*")
                .commit(CommitMode::Every(Duration::from_millis(100)))
        };
        let mut consumer = client.group_consumer(options).await.unwrap();
        let stop = Arc::new(tokio::sync::Notify::new());
        let (seen, stopped) = (Arc::clone(seen), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = consumer.next() => next.unwrap().record,
                    () = stopped.notified() => return consumer,
                };
                let place = (next.partition.0, next.offset.0);
                seen.lock().unwrap().entry(place).or_default().push(name);
            }
        });
        Self { client, task, stop }
    }

    async fn stop(self) -> (Client, GroupConsumer) {
        self.stop.notify_one();
        (self.client, self.task.await.unwrap())
    }
}

const PARTITIONS: u32 = 6;

async fn produce(broker: &TestBroker, records: u32) {
    let client = Client::connect(broker.options()).await.unwrap();
    let producer = client
        .producer(ProducerOptions::new("topic"))
        .await
        .unwrap();
    for index in 0..records {
        let record = ProducerRecord::new(format!("{index}"));
        let record = record.to_partition(PartitionId(index % PARTITIONS));
        producer.send(record).await.unwrap();
    }
    producer.close().await;
    client.close().await;
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} never happens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn share(broker: &TestBroker, sizes: &[usize]) {
    let client = Client::connect(broker.options()).await.unwrap();
    let begun = Instant::now();
    loop {
        let group = client.describe_group("g").await.unwrap();
        let partitions = |of: &millrace_wire::TopicPartitions| of.partitions.len();
        let mut shares: Vec<usize> = group
            .members
            .iter()
            .map(|member| member.current.iter().map(partitions).sum())
            .collect();
        shares.sort_unstable();
        if shares == sizes {
            return client.close().await;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{sizes:?} never comes, only {group:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Members leave, crash and join, and the broker is killed: every record is seen, and what was committed is
/// not seen again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_seen_whoever_goes() {
    let mut broker = tokio::task::block_in_place(|| TestBroker::start_with(&SETTINGS));
    let client = Client::connect(broker.options()).await.unwrap();
    client
        .create_topic("topic", Some(PARTITIONS), &[])
        .await
        .unwrap();
    client.close().await;
    let seen = Seen::default();
    let count = || seen.lock().unwrap().len();
    let leaving = Member::start(&broker, "leaving", &seen).await;
    let crashing = Member::start(&broker, "crashing", &seen).await;
    let staying = Member::start(&broker, "staying", &seen).await;
    share(&broker, &[2, 2, 2]).await;
    produce(&broker, 1_200).await;
    until("the first part", || count() == 1_200).await;
    let readers: BTreeSet<_> = seen.lock().unwrap().values().flatten().copied().collect();
    assert_eq!(readers.len(), 3, "each had its share");

    let (client, consumer) = leaving.stop().await;
    consumer.close().await.unwrap();
    client.close().await;
    share(&broker, &[3, 3]).await;
    produce(&broker, 600).await;
    until("the second part", || count() == 1_800).await;

    // Without a goodbye: its connections are gone, and its session ends.
    let (client, consumer) = crashing.stop().await;
    client.close().await;
    drop(consumer);
    share(&broker, &[6]).await;
    produce(&broker, 600).await;
    until("the third part", || count() == 2_400).await;

    tokio::task::block_in_place(|| {
        broker.kill();
        broker.start_again();
    });
    produce(&broker, 600).await;
    until("the last part", || count() == 3_000).await;
    let (client, consumer) = staying.stop().await;
    consumer.close().await.unwrap();
    client.close().await;

    let client = Client::connect(broker.options()).await.unwrap();
    let committed = client.group_offsets("g", None).await.unwrap();
    assert_eq!(committed.len(), PARTITIONS as usize);
    for offset in committed {
        assert_eq!(offset.committed.unwrap().offset.0, 500);
    }
    let mut last = client
        .group_consumer(GroupOptions::new("g").topic("topic"))
        .await
        .unwrap();
    assert_eq!(last.next_before_end().await.unwrap(), None);
    let lags = last.lag().await.unwrap();
    assert!(lags.iter().all(|lag| lag.lag() == 0), "{lags:?}");
    last.close().await.unwrap();
    client.close().await;

    let seen = seen.lock().unwrap();
    assert!(seen.keys().all(|(_, offset)| *offset < 500));
    let again = seen
        .values()
        .filter(|readers| readers.contains(&"leaving") && readers.len() > 1);
    assert_eq!(
        again.count(),
        0,
        "what it had committed when it left was read once"
    );
}
