//! Writers: ordinary clients that produce without pause and enter into the ledger what they
//! sent and what was acknowledged. Nobody tells them when the broker is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use millrace_client::{
    Client, ClientError, Compression, ConnectOptions, Delivery, Producer, ProducerOptions,
    ProducerRecord,
};
use millrace_model::PartitionId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ledger::{Ledger, MAX_VALUE_LEN, RECORD_ID_LEN, RecordId};

/// Records that a writer may have sent and not yet seen acknowledged.
const MAX_OUTSTANDING: usize = 2_000;

/// The most records that a writer sends in one go.
const MAX_BURST: usize = 25;

/// The longest pause between two bursts. It bounds what there is to check, and lets batches
/// of all sizes come about.
const MAX_PAUSE: Duration = Duration::from_millis(16);

/// How long a record may take, far beyond any outage of the test: a record that fails is a
/// fault of the broker or the client.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The ledger, shared by the writers and the checks.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Reads or writes the ledger.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&mut Ledger) -> T) -> T {
        // A writer that panicked has failed the test already.
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ledger as it is now.
    pub(super) fn snapshot(&self) -> Ledger {
        self.with(|ledger| ledger.clone())
    }
}

/// A topic that the writers write to.
#[derive(Clone, Debug)]
pub(super) struct WrittenTopic {
    /// Its name.
    pub(super) name: String,
    /// Index, in the ledger, of its partition 0; the others follow.
    pub(super) first_partition: usize,
    /// Its number of partitions.
    pub(super) partitions: u32,
}

impl WrittenTopic {
    /// Records that were sent to this topic.
    pub(super) fn records_in(&self, ledger: &Ledger) -> usize {
        let partitions = self.first_partition..self.first_partition + self.partitions as usize;
        let lanes = ledger
            .lanes
            .iter()
            .filter(|lane| partitions.contains(&lane.partition));
        lanes.map(|lane| lane.sent.len()).sum()
    }
}

/// Running writers.
#[derive(Debug)]
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<(), ClientError>>>,
}

/// One writer's producer for one topic, and its lanes by partition.
struct Stream {
    producer: Producer,
    lanes: Vec<u32>,
}

struct Writer {
    streams: Vec<Stream>,
    ledger: SharedLedger,
    rng: Rng,
    stop: Arc<AtomicBool>,
}

impl Writers {
    /// Starts `count` writers, each with a connection of its own.
    pub(super) async fn start(
        count: usize,
        options: &ConnectOptions,
        topics: &[WrittenTopic],
        ledger: &SharedLedger,
        rng: &mut Rng,
    ) -> Result<Self, ClientError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for index in 0..count {
            let client = Client::connect(options.clone()).await?;
            let compression = Compression::ALL[index % Compression::ALL.len()];
            let mut streams = Vec::new();
            for topic in topics {
                streams.push(Stream::open(&client, topic, compression, ledger).await?);
            }
            let (ledger, stop) = (ledger.clone(), Arc::clone(&stop));
            tasks.push(tokio::spawn(
                Writer {
                    streams,
                    ledger,
                    rng: rng.fork(),
                    stop,
                }
                .run(),
            ));
        }
        Ok(Self { stop, tasks })
    }

    /// Whether all writers still write.
    ///
    /// # Errors
    /// Why one ended, in words.
    pub(super) async fn failure(&mut self) -> Result<(), String> {
        let Some(ended) = self.tasks.iter_mut().find(|task| task.is_finished()) else {
            return Ok(());
        };
        Err(match ended.await {
            Ok(Err(error)) => format!("a writer failed: {error}"),
            Ok(Ok(())) => "a writer ended before its time".into(),
            Err(panic) => format!("a writer panicked: {panic}"),
        })
    }

    /// Stops the writers after their outstanding records are acknowledged.
    pub(super) async fn finish(self) -> Result<(), ClientError> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            match task.await {
                Ok(outcome) => outcome?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        Ok(())
    }
}

impl Stream {
    async fn open(
        client: &Client,
        topic: &WrittenTopic,
        compression: Compression,
        ledger: &SharedLedger,
    ) -> Result<Self, ClientError> {
        let mut options = ProducerOptions::new(&topic.name);
        options.compression = compression;
        options.delivery_timeout = DELIVERY_TIMEOUT;
        options.linger = Duration::from_millis(1);
        let producer = client.producer(options).await?;
        let partitions = topic.first_partition..topic.first_partition + topic.partitions as usize;
        let lanes = ledger.with(|ledger| {
            partitions
                .map(|partition| ledger.open_lane(partition))
                .collect()
        });
        Ok(Self { producer, lanes })
    }
}

impl Writer {
    async fn run(mut self) -> Result<(), ClientError> {
        let (sender, deliveries) = mpsc::channel(MAX_OUTSTANDING);
        let acknowledging = tokio::spawn(enter_acknowledgements(deliveries, self.ledger.clone()));
        let outcome = self.write(&sender).await;
        drop(sender);
        let acknowledged = match acknowledging.await {
            Ok(acknowledged) => acknowledged,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        acknowledged.and(outcome)
    }

    async fn write(
        &mut self,
        deliveries: &mpsc::Sender<(RecordId, Delivery)>,
    ) -> Result<(), ClientError> {
        let mut noise = vec![0; MAX_VALUE_LEN - RECORD_ID_LEN];
        while !self.stop.load(Ordering::Relaxed) {
            let stream = &self.streams[self.rng.usize(..self.streams.len())];
            let partition = self.rng.u32(..stream.lanes.len() as u32);
            for _ in 0..self.rng.usize(1..=MAX_BURST) {
                self.rng.fill(&mut noise[..64]);
                // Mostly short values, now and then a long one.
                let len = (self.rng.f64().powi(4) * noise.len() as f64) as usize;
                let (id, value) = self.ledger.with(|ledger| {
                    let id = ledger.next_id(stream.lanes[partition as usize]);
                    let value = id.value(&noise[..len]);
                    ledger.sent(id, &value);
                    (id, value)
                });
                let record = ProducerRecord::new(value).to_partition(PartitionId(partition));
                let delivery = stream.producer.send(record).await?;
                if deliveries.send((id, delivery)).await.is_err() {
                    // The other half has failed, and says why.
                    return Ok(());
                }
            }
            tokio::time::sleep(MAX_PAUSE.mul_f64(self.rng.f64())).await;
        }
        for stream in &self.streams {
            stream.producer.flush().await;
        }
        Ok(())
    }
}

async fn enter_acknowledgements(
    mut deliveries: mpsc::Receiver<(RecordId, Delivery)>,
    ledger: SharedLedger,
) -> Result<(), ClientError> {
    while let Some((id, delivery)) = deliveries.recv().await {
        let stored = delivery.await?;
        ledger.with(|ledger| ledger.acked(id, stored.offset));
    }
    Ok(())
}
