//! A consumer that follows every topic from its start through all kills, and must see every
//! record once and in order: nothing is delivered that a crash can still take away, and a
//! consumer that reconnects goes on where it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_client::{Client, ClientError};
use tokio::task::JoinHandle;

use super::checker::ReadRecord;
use super::reader::{check_topic, open};
use super::writers::{SharedLedger, WrittenTopic};

/// How long the followers may take to see the last records.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// How often they are asked.
const CATCH_UP_POLL: Duration = Duration::from_millis(2);

/// The records of each partition of a topic.
type Seen = Arc<Mutex<Vec<Vec<ReadRecord>>>>;

/// Running followers, one a topic.
#[derive(Debug)]
pub(super) struct Followers(Vec<Follower>);

#[derive(Debug)]
struct Follower {
    topic: WrittenTopic,
    seen: Seen,
    task: JoinHandle<Result<(), ClientError>>,
}

impl Followers {
    /// Starts to follow these topics.
    pub(super) fn start(client: &Client, topics: &[WrittenTopic]) -> Self {
        Self(
            topics
                .iter()
                .map(|topic| Follower::start(client.clone(), topic.clone()))
                .collect(),
        )
    }

    /// Waits until everything in the ledger was seen, checks it, and ends.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn finish(self, ledger: &SharedLedger) -> Result<(), String> {
        let ledger = ledger.snapshot();
        for mut follower in self.0 {
            let sent = follower.topic.records_in(&ledger);
            let seen = follower.wait_for(sent).await?;
            check_topic(&follower.topic, &ledger, &ledger, &seen)
                .map_err(|what| format!("as the follower saw it, {what}"))?;
        }
        Ok(())
    }
}

impl Follower {
    fn start(client: Client, topic: WrittenTopic) -> Self {
        let seen = Seen::new(Mutex::new(vec![Vec::new(); topic.partitions as usize]));
        let task = tokio::spawn(follow(client, topic.clone(), Arc::clone(&seen)));
        Self { topic, seen, task }
    }

    /// Waits until `count` records were seen; what was seen then.
    async fn wait_for(&mut self, count: usize) -> Result<Vec<Vec<ReadRecord>>, String> {
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        loop {
            let seen: usize = lock(&self.seen).iter().map(Vec::len).sum();
            if seen >= count {
                self.task.abort();
                return Ok(std::mem::take(&mut *lock(&self.seen)));
            }
            let name = &self.topic.name;
            if self.task.is_finished() {
                let why = (&mut self.task).await;
                return Err(format!("the follower of {name} ended: {why:?}"));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the follower of {name} saw {seen} of {count} records"
                ));
            }
            tokio::time::sleep(CATCH_UP_POLL).await;
        }
    }
}

async fn follow(client: Client, topic: WrittenTopic, seen: Seen) -> Result<(), ClientError> {
    let mut consumer = open(&client, &topic).await?;
    loop {
        let record = consumer.next().await?;
        let value = record.value.as_deref().unwrap_or_default();
        lock(&seen)[record.partition.0 as usize].push(ReadRecord::new(record.offset, value));
    }
}

fn lock(seen: &Seen) -> MutexGuard<'_, Vec<Vec<ReadRecord>>> {
    // A follower that panicked has failed the test already.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
