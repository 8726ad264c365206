//! Reads everything and compares it with the ledger.

use std::time::{Duration, Instant};

use millrace_client::{Client, ClientError, Consumer, ConsumerOptions, OffsetSpec};
use millrace_model::Offset;

use super::checker::{ReadRecord, check};
use super::ledger::Ledger;
use super::writers::{SharedLedger, WrittenTopic};

/// Violations that are told; one is enough, and the thousandth tells nothing new.
const TOLD_VIOLATIONS: usize = 10;

/// How long opening a consumer is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two tries.
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// Reads every topic from its start to what was the end when the read began, and checks it
/// against the ledger as it was before and is after; the number of records read.
///
/// # Errors
/// What was found wrong, in words.
pub(super) async fn check_everything(
    client: Client,
    topics: Vec<WrittenTopic>,
    ledger: SharedLedger,
) -> Result<u64, String> {
    let mut records = 0;
    for topic in &topics {
        let before = ledger.snapshot();
        let read = read_topic(&client, topic)
            .await
            .map_err(|error| format!("topic {} cannot be read: {error}", topic.name))?;
        records += read
            .iter()
            .map(|partition| partition.len() as u64)
            .sum::<u64>();
        check_topic(topic, &before, &ledger.snapshot(), &read)?;
    }
    Ok(records)
}

/// Checks the records of each partition of a topic.
pub(super) fn check_topic(
    topic: &WrittenTopic,
    before: &Ledger,
    after: &Ledger,
    read: &[Vec<ReadRecord>],
) -> Result<(), String> {
    for (number, records) in read.iter().enumerate() {
        let partition = topic.first_partition + number;
        let violations = check(partition, before, after, Offset::ZERO, records);
        if violations.is_empty() {
            continue;
        }
        let told: Vec<String> = violations
            .iter()
            .take(TOLD_VIOLATIONS)
            .map(|v| format!("  {v}"))
            .collect();
        return Err(format!(
            "partition {number} of topic {}, {} records, has {} violations, the first of them:\n{}",
            topic.name,
            records.len(),
            violations.len(),
            told.join("\n")
        ));
    }
    Ok(())
}

/// The records of each partition.
async fn read_topic(
    client: &Client,
    topic: &WrittenTopic,
) -> Result<Vec<Vec<ReadRecord>>, ClientError> {
    let mut consumer = open(client, topic).await?;
    let mut read = vec![Vec::new(); topic.partitions as usize];
    while let Some(record) = consumer.next_before_end().await? {
        let value = record.value.as_deref().unwrap_or_default();
        read[record.partition.0 as usize].push(ReadRecord::new(record.offset, value));
    }
    Ok(read)
}

/// Opens a consumer of the whole topic. Opening is a request, which a kill may cut off; what
/// is open goes on by itself.
pub(super) async fn open(client: &Client, topic: &WrittenTopic) -> Result<Consumer, ClientError> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        let options = ConsumerOptions::new(&topic.name).from(OffsetSpec::Earliest);
        match client.consumer(options).await {
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}
