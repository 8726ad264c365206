//! Producers: each one raw stream to one partition, so many batches in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_client::{AckReceiver, Acks, ClientError, FrameSender};
use millrace_model::{ErrorCode, LogId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BenchError;
use crate::options::{AcksOption, Load};
use crate::pace::{self, Schedule};
use crate::payload::FrameMaker;
use crate::report::{Report, Tally};
use crate::target::{BenchTopic, Target};

impl From<AcksOption> for Acks {
    fn from(option: AcksOption) -> Self {
        match option {
            AcksOption::None => Self::None,
            AcksOption::Leader => Self::Leader,
            AcksOption::All => Self::All,
        }
    }
}

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
}

/// Runs producers only.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Report, BenchError> {
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    let window = Window::new(load);
    let mut tally = Tally::default();
    for producer in start(&target, &topic, load, window, Stamping::Once).await? {
        tally.merge(&joined(producer).await?);
    }
    target.close(&topic).await?;
    Ok(Report::new(
        "produce",
        load.rate.map(Into::into),
        window.length(),
        &tally,
    ))
}

/// Whether frames are made once and sent again and again, or carry the time at which each
/// was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamping {
    /// One frame for the whole run.
    Once,
    /// A new frame for each batch.
    Each,
}

/// What a finished client did.
pub(crate) async fn joined(client: Running) -> Result<Tally, BenchError> {
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
        let log = topic.log(index);
        let (sender, acks, _) = target.client.produce_stream(log, load.acks.into()).await?;
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
            frames: Frames::new(log, load, stamping, index as u64)?,
        };
        running.push(tokio::spawn(producer.run(sender, acks, load.clone())));
    }
    if !schedules.is_empty() {
        std::thread::spawn(move || pace::run(schedules, window.to));
    }
    Ok(running)
}

/// What a producer sends.
enum Frames {
    Same(Bytes),
    New(Box<FrameMaker>),
}

impl Frames {
    fn new(log: LogId, load: &Load, stamping: Stamping, seed: u64) -> Result<Self, BenchError> {
        let mut maker = FrameMaker::new(log, load, seed);
        Ok(match stamping {
            Stamping::Once => Self::Same(maker.frame(Duration::ZERO)?),
            Stamping::Each => Self::New(Box::new(maker)),
        })
    }

    fn next(&mut self, due: Duration) -> Result<Bytes, BenchError> {
        match self {
            Self::Same(frame) => Ok(frame.clone()),
            Self::New(maker) => maker.frame(due),
        }
    }
}

struct Producer {
    window: Window,
    due: Option<flume::Receiver<Instant>>,
    slots: Arc<Semaphore>,
    frames: Frames,
}

/// A batch on its way: when it was due, and its place among those in flight.
type InFlight = (Instant, OwnedSemaphorePermit);

impl Producer {
    async fn run(self, sender: FrameSender, acks: AckReceiver, load: Load) -> Tally {
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
        mut sender: FrameSender,
        sent: flume::Sender<InFlight>,
    ) -> Result<(), BenchError> {
        while let Some((due, slot)) = self.next().await {
            let frame = self.frames.next(due - self.window.epoch)?;
            if sent.send((due, slot)).is_err() {
                break; // the acknowledgements have ended; their reader says why
            }
            sender.send(frame).await?;
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
    mut acks: AckReceiver,
    in_flight: flume::Receiver<InFlight>,
    window: Window,
    load: &Load,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        match acks.next().await {
            Ok(Some(ack)) => {
                let Ok((due, _slot)) = in_flight.try_recv() else {
                    tally.error("an acknowledgement of nothing that was sent");
                    return tally;
                };
                match ErrorCode::from_i16(ack.code) {
                    ErrorCode::None if window.counts(due) => {
                        tally.ack.record(due.elapsed());
                        count(&mut tally, load);
                    }
                    ErrorCode::None => {}
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
        if window.counts(due) {
            count(&mut tally, load);
        }
    }
    tally
}

fn count(tally: &mut Tally, load: &Load) {
    tally.records += u64::from(load.batch.get());
    tally.bytes += u64::from(load.batch.get()) * load.record_size.get() as u64;
}
