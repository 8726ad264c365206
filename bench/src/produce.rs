//! Producers: each one raw stream to each of its partitions, so many batches in flight. What goes
//! when, and what it counts for, is decided in [`crate::flow`]; here it is carried out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millrace_client::ClientError;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::BenchError;
use crate::flow::Flow;
use crate::measure::Tally;
use crate::options::{AcksOption, Load};
use crate::pace::{self, Parcel, Supply};
use crate::payload::{BatchMaker, Pool};
use crate::progress::Goal;
use crate::report::Measured;
use crate::shape::Shapes;
use crate::stage::{Live, Run, Stage, close, joined, tidy};
use crate::target::{BenchTopics, Target, Who};
use crate::transport::{Acknowledgements, BatchSender};
use crate::window::{Clock, Window};

/// Runs producers only.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    let target = Target::open(load).await?;
    let measured = run_on(&target, load).await?;
    Ok(close(target, measured).await)
}

pub(crate) async fn run_on(target: &Target, load: &Load) -> Result<Measured, BenchError> {
    let topics = target.topics(load).await?;
    let producers = open(target, &topics, load, Stamping::Once).await?;
    let meters = (target.meter(load)?, target.probe());
    let run = Run::start(load, Window::new(load), goal(load), meters);
    let tally = joined(start(producers, &run.stage)).await;
    let mut measured = run.end(tally, |tally| &tally.acked).await;
    tidy(target, &topics, &mut measured).await;
    Ok(measured)
}

/// What the producers of a load go towards.
pub(crate) fn goal(load: &Load) -> Goal {
    match load.count {
        Some(count) => Goal::Records(count.get()),
        None => Goal::Time,
    }
}

/// Whether batches are made once and sent again and again, or carry the time at which each
/// was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamping {
    /// The producer's cycle of batches for the whole run.
    Once,
    /// A new one each time.
    Each,
}

/// A producer that is connected and has its batches ready.
pub(crate) struct Producer {
    index: usize,
    shapes: Arc<Shapes>,
    lanes: Vec<Lane>,
}

struct Lane {
    sender: BatchSender,
    acks: Acknowledgements,
    batches: Batches,
}

/// Opens all producers of the load.
///
/// # Errors
/// The broker cannot be reached or refuses; the payload cannot be read.
pub(crate) async fn open(
    target: &Target,
    topics: &BenchTopics,
    load: &Load,
    stamping: Stamping,
) -> Result<Vec<Producer>, BenchError> {
    let pool = Pool::new(load)?;
    let mut producers = Vec::with_capacity(load.producers.get());
    for index in 0..load.producers.get() {
        let seed = index as u64;
        let shapes = Arc::new(Shapes::new(load, seed));
        let mut lanes = Vec::new();
        for place in topics.places_of(index, load.producers.get()) {
            let who = (place, Who::Producer(index));
            let (sender, acks) = target.producer(topics, who, load, load.acks).await?;
            let maker = target.batch_maker(topics, place, load, &pool, seed);
            lanes.push(Lane {
                sender,
                acks,
                batches: Batches::new(maker, &shapes, stamping)?,
            });
        }
        producers.push(Producer {
            index,
            shapes,
            lanes,
        });
    }
    Ok(producers)
}

/// Starts all producers, and the thread that keeps their schedule if the loop is open.
pub(crate) fn start(producers: Vec<Producer>, stage: &Stage) -> JoinSet<Tally> {
    let (mut running, mut schedules) = (JoinSet::new(), Vec::new());
    for producer in producers {
        let shapes = Arc::clone(&producer.shapes);
        let supply = Supply::new(&stage.load, stage.window, shapes, producer.index);
        let coming = match supply.is_open_loop() {
            true => {
                // It holds what is due and not sent: bounded by the rate and the run's length.
                let (due, parcels) = flume::unbounded();
                schedules.push((supply, due));
                Coming::Due(parcels)
            }
            false => Coming::OnDemand(supply),
        };
        running.spawn(producer.run(coming, stage.clone()));
    }
    if !schedules.is_empty() {
        let clock = stage.clock;
        std::thread::spawn(move || pace::run(clock, schedules));
    }
    running
}

/// What a producer sends.
enum Batches {
    Same(Vec<Bytes>),
    New(Box<BatchMaker>),
}

impl Batches {
    fn new(mut maker: BatchMaker, shapes: &Shapes, of: Stamping) -> Result<Self, BenchError> {
        Ok(match of {
            Stamping::Once => {
                let cycle = shapes.cycle().iter();
                let made: Result<_, _> = cycle.map(|shape| maker.plain(shape)).collect();
                Self::Same(made?)
            }
            Stamping::Each => Self::New(Box::new(maker)),
        })
    }

    fn make(&mut self, parcel: &Parcel, shapes: &Shapes) -> Result<Bytes, BenchError> {
        match self {
            Self::Same(cycle) => Ok(cycle[shapes.index(parcel.number)].clone()),
            Self::New(maker) => {
                let shape = shapes.of(parcel.number);
                maker.stamped(shape, parcel.due, parcel.apart)
            }
        }
    }
}

/// Where a producer's next batch comes from.
enum Coming {
    /// The thread that keeps the schedule.
    Due(flume::Receiver<Parcel>),
    /// The producer itself, as soon as there is a place.
    OnDemand(Supply),
}

/// What the tasks of a producer share.
struct Shared {
    flow: Mutex<Flow>,
    /// Told whenever a place among those in flight becomes free.
    room: Notify,
    clock: Clock,
    live: Arc<Live>,
}

impl Shared {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        // Nothing that holds the lock panics half way through a change.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place has become free, unless there was nothing to free it.
    fn freed(&self, counted: Option<u64>) -> Result<(), BenchError> {
        let counted = counted.ok_or_else(|| protocol("an answer to nothing that was sent"))?;
        self.live.acked(counted);
        self.room.notify_one();
        Ok(())
    }

    async fn has_room(&self) {
        while !self.flow().has_room() {
            self.room.notified().await;
        }
    }
}

fn protocol(why: &str) -> BenchError {
    BenchError::Client(ClientError::Protocol(why.to_owned()))
}

impl Producer {
    async fn run(self, coming: Coming, stage: Stage) -> Tally {
        let Stage {
            clock,
            window,
            ref live,
            ref load,
            ..
        } = stage;
        let shared = Arc::new(Shared {
            flow: Mutex::new(Flow::new(window, load.in_flight.get(), self.lanes.len())),
            room: Notify::new(),
            clock,
            live: Arc::clone(live),
        });
        let answered = load.acks != AcksOption::None;
        let late = match &coming {
            Coming::Due(parcels) => Some(parcels.clone()),
            Coming::OnDemand(_) => None,
        };
        let mut tasks = JoinSet::new();
        let mut outgoing = Vec::with_capacity(self.lanes.len());
        for (
            lane,
            Lane {
                sender,
                acks,
                batches,
            },
        ) in self.lanes.into_iter().enumerate()
        {
            if answered {
                tasks.spawn(take_answers(lane, acks, Arc::clone(&shared)));
            }
            outgoing.push((sender, batches));
        }
        let sending = Sending {
            coming,
            lanes: outgoing,
            shapes: self.shapes,
            answered,
        };
        tasks.spawn(sending.run(Arc::clone(&shared)));
        let ended = until_done(&mut tasks, &stage).await;
        tasks.shutdown().await;
        let mut flow = std::mem::replace(&mut *shared.flow(), Flow::new(window, 1, 1));
        late.iter()
            .flat_map(flume::Receiver::try_iter)
            .for_each(|parcel| flow.offer(parcel));
        match ended {
            End::Done => {}
            End::GivenUp => flow.give_up(clock.now()),
            End::Broken(error) => flow.broken(clock.now(), error),
        }
        flow.into_tally()
    }
}

/// How a producer ended.
enum End {
    /// All that was due was sent and answered.
    Done,
    /// The run waits no longer.
    GivenUp,
    /// A connection, or the broker.
    Broken(BenchError),
}

async fn until_done(tasks: &mut JoinSet<Result<(), BenchError>>, stage: &Stage) -> End {
    loop {
        let ended = tokio::select! {
            ended = tasks.join_next() => ended,
            () = stage.end() => return End::GivenUp,
        };
        match ended {
            None => return End::Done,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return End::Broken(error),
            Some(Err(error)) => return End::Broken(protocol(&error.to_string())),
        }
    }
}

/// The sending half of a producer.
struct Sending {
    coming: Coming,
    lanes: Vec<(BatchSender, Batches)>,
    shapes: Arc<Shapes>,
    answered: bool,
}

impl Sending {
    async fn run(mut self, shared: Arc<Shared>) -> Result<(), BenchError> {
        while let Some(parcel) = self.coming.next(&shared).await {
            let (lane, parcel) = self.placed(parcel, &shared).await;
            let (sender, batches) = &mut self.lanes[lane];
            let batch = batches.make(&parcel, &self.shapes)?;
            sender.send(batch).await?;
            if !self.answered {
                let counted = shared.flow().left(lane, shared.clock.now());
                shared.freed(counted)?;
            }
        }
        self.lanes
            .iter_mut()
            .for_each(|(sender, _)| sender.finish());
        Ok(())
    }

    /// A batch that has its place among those in flight.
    async fn placed(&self, parcel: Parcel, shared: &Shared) -> (usize, Parcel) {
        shared.flow().offer(parcel);
        loop {
            shared.has_room().await;
            if let Some(placed) = shared.flow().send_next() {
                return placed;
            }
        }
    }
}

impl Coming {
    async fn next(&mut self, shared: &Shared) -> Option<Parcel> {
        match self {
            Self::Due(parcels) => parcels.recv_async().await.ok(),
            Self::OnDemand(supply) => {
                shared.has_room().await;
                supply.next(shared.clock.now())
            }
        }
    }
}

/// The receiving half of a lane.
async fn take_answers(
    lane: usize,
    mut acks: Acknowledgements,
    shared: Arc<Shared>,
) -> Result<(), BenchError> {
    while let Some(code) = acks.next().await? {
        let counted = shared.flow().answered(lane, shared.clock.now(), code);
        shared.freed(counted)?;
    }
    match shared.flow().in_flight_on(lane) {
        0 => Ok(()),
        _ => Err(protocol(
            "the broker ended a stream that it owes answers on",
        )),
    }
}
