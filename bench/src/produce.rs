//! Producers: each one raw stream to one partition, so many batches in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_client::ClientError;
use millrace_model::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BenchError;
use crate::measure::Tally;
use crate::options::{AcksOption, Load};
use crate::pace::{self, Schedule};
use crate::payload::BatchMaker;
use crate::report::Measured;
use crate::target::{BenchTopic, Target};
use crate::transport::{Acknowledgements, BatchSender};
use crate::usage::{Meter, Usage};

/// When a run starts, starts to count, and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The zero of the run's stamps.
    pub(crate) epoch: Instant,
    /// From here on it counts.
    pub(crate) from: Instant,
    /// Up to here.
    pub(crate) to: Instant,
}

impl Window {
    pub(crate) fn new(load: &Load) -> Self {
        let epoch = Instant::now();
        let from = epoch + load.warm_up;
        Self {
            epoch,
            from,
            to: from + load.duration,
        }
    }

    pub(crate) fn counts(&self, due: Instant) -> bool {
        self.from <= due && due < self.to
    }

    pub(crate) fn length(&self) -> Duration {
        self.to - self.from
    }

    /// Reads the usage from where it counts to where it ends, beside the load.
    pub(crate) fn metered(self, meter: Meter) -> Metered {
        tokio::spawn(async move {
            tokio::time::sleep_until(self.from.into()).await;
            let end = tokio::time::sleep_until(self.to.into());
            Ok(meter.during(end).await?.1)
        })
    }
}

/// The usage of a window that may not have ended yet.
pub(crate) type Metered = tokio::task::JoinHandle<std::io::Result<Usage>>;

/// Runs producers only.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    let meter = target.meter(load)?;
    let window = Window::new(load);
    let metered = window.metered(meter);
    let stages = target.probe().during(window);
    let mut tally = Tally::default();
    for producer in start(&target, &topic, load, window, Stamping::Once).await? {
        tally.merge(&joined(producer).await?);
    }
    let usage = joined(metered).await??;
    let stages = joined(stages).await?;
    target.close(&topic).await?;
    Ok(Measured {
        tally,
        wall: window.length(),
        usage,
        stages,
    })
}

/// Whether batches are made once and sent again and again, or carry the time at which each
/// was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamping {
    /// One batch for the whole run.
    Once,
    /// A new one each time.
    Each,
}

/// What a finished client did.
pub(crate) async fn joined<T>(client: tokio::task::JoinHandle<T>) -> Result<T, BenchError> {
    client
        .await
        .map_err(|error| BenchError::Client(ClientError::Protocol(error.to_string())))
}

pub(crate) type Running = tokio::task::JoinHandle<Tally>;

/// Starts all producers, and the thread that keeps their schedule if the loop is open.
pub(crate) async fn start(
    target: &Target,
    topic: &BenchTopic,
    load: &Load,
    window: Window,
    stamping: Stamping,
) -> Result<Vec<Running>, BenchError> {
    let producers = load.producers.get();
    let (mut running, mut schedules) = (Vec::with_capacity(producers), Vec::new());
    for index in 0..producers {
        let partition = topic.partition(index);
        let (sender, acks) = target.producer(topic, partition, load.acks).await?;
        let due = load.rate.map(|rate| {
            let (due, times) = flume::unbounded();
            let schedule =
                Schedule::new(window.epoch, rate.get(), load.batch.get(), index, producers);
            schedules.push((schedule, due));
            times
        });
        let producer = Producer {
            window,
            due,
            slots: Arc::new(Semaphore::new(load.in_flight.get())),
            batches: Batches::new(
                target.batch_maker(topic, partition, load, index as u64),
                stamping,
            )?,
        };
        running.push(tokio::spawn(producer.run(sender, acks, load.clone())));
    }
    if !schedules.is_empty() {
        std::thread::spawn(move || pace::run(schedules, window.to));
    }
    Ok(running)
}

/// What a producer sends.
enum Batches {
    Same(Bytes),
    New(Box<BatchMaker>),
}

impl Batches {
    fn new(mut maker: BatchMaker, stamping: Stamping) -> Result<Self, BenchError> {
        Ok(match stamping {
            Stamping::Once => Self::Same(maker.batch(Duration::ZERO)?),
            Stamping::Each => Self::New(Box::new(maker)),
        })
    }

    fn next(&mut self, due: Duration) -> Result<Bytes, BenchError> {
        match self {
            Self::Same(batch) => Ok(batch.clone()),
            Self::New(maker) => maker.batch(due),
        }
    }
}

struct Producer {
    window: Window,
    due: Option<flume::Receiver<Instant>>,
    slots: Arc<Semaphore>,
    batches: Batches,
}

/// A batch on its way: when it was due, and its place among those in flight.
type InFlight = (Instant, OwnedSemaphorePermit);

impl Producer {
    async fn run(self, sender: BatchSender, acks: Acknowledgements, load: Load) -> Tally {
        let (sent, in_flight) = flume::unbounded();
        let window = self.window;
        let sending = tokio::spawn(self.send(sender, sent));
        let mut tally = match load.acks {
            AcksOption::None => count_sent(in_flight, window, &load).await,
            _ => count_acks(acks, in_flight, window, &load).await,
        };
        match sending.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tally.error(error),
            Err(error) => tally.error(error),
        }
        tally
    }

    async fn send(
        mut self,
        mut sender: BatchSender,
        sent: flume::Sender<InFlight>,
    ) -> Result<(), BenchError> {
        while let Some((due, slot)) = self.next().await {
            let batch = self.batches.next(due - self.window.epoch)?;
            if sent.send((due, slot)).is_err() {
                break; // the acknowledgements have ended; their reader says why
            }
            sender.send(batch).await?;
        }
        sender.finish();
        Ok(())
    }

    /// When the next batch is due, and its place: in a closed loop it is due as soon as
    /// there is a place.
    async fn next(&self) -> Option<InFlight> {
        let scheduled = match &self.due {
            Some(times) => Some(times.recv_async().await.ok()?),
            None => None,
        };
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let due = scheduled.unwrap_or_else(Instant::now);
        (due < self.window.to).then_some((due, slot))
    }
}

async fn count_acks(
    mut acks: Acknowledgements,
    in_flight: flume::Receiver<InFlight>,
    window: Window,
    load: &Load,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        match acks.next().await {
            Ok(Some(code)) => {
                let Ok((due, _slot)) = in_flight.try_recv() else {
                    tally.error("an acknowledgement of nothing that was sent");
                    return tally;
                };
                match code {
                    ErrorCode::None => count(&mut tally, load, window, due, Some(due.elapsed())),
                    code => tally.error(code),
                }
            }
            Ok(None) => return tally,
            Err(error) => {
                tally.error(error);
                return tally;
            }
        }
    }
}

async fn count_sent(in_flight: flume::Receiver<InFlight>, window: Window, load: &Load) -> Tally {
    let mut tally = Tally::default();
    while let Ok((due, _slot)) = in_flight.recv_async().await {
        count(&mut tally, load, window, due, None);
    }
    tally
}

/// Counts a batch of the load that was due in the window.
fn count(tally: &mut Tally, load: &Load, window: Window, due: Instant, latency: Option<Duration>) {
    if window.counts(due) {
        let records = u64::from(load.batch.get());
        let bytes = records * load.record_size.get() as u64;
        tally
            .acked
            .count(due - window.from, records, bytes, latency);
    }
}
