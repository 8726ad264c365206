//! Consumers alone: they read a topic that was filled before, all of it; or, at the tail, what
//! producers send meanwhile.

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::BenchError;
use crate::e2e::ends;
use crate::options::{AcksOption, Load, StartFrom};
use crate::payload::Pool;
use crate::progress::{self, Goal};
use crate::read::{self, Finish, Look};
use crate::report::{Kind, Measured};
use crate::shape::Shapes;
use crate::stage::{Run, close, joined, tidy};
use crate::target::{BenchTopics, Place, Target, Who};
use crate::window::Window;
use crate::{mixed, transport};

/// Batches in flight while the topic is filled.
const FILL_IN_FLIGHT: usize = 16;

/// Fills the topic and reads it back, or reads what is sent meanwhile. The broker has just
/// written what it is asked for; what its caches do not hold comes from the device, and after
/// a restart (`--cold`) that is everything.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    let mut target = Target::open(load).await?;
    let measured = match load.start(Kind::Consume) {
        StartFrom::Beginning => read_back(&mut target, load).await?,
        StartFrom::Tail => {
            mixed::both(&mut target, load, StartFrom::Tail, |tally| &tally.delivered).await?
        }
    };
    Ok(close(target, measured).await)
}

async fn read_back(target: &mut Target, load: &Load) -> Result<Measured, BenchError> {
    let topics = target.topics(load).await?;
    fill(target, &topics, load).await?;
    let ends = ends(target, &topics).await?;
    let assigned = read::assigned(&topics, load);
    let whole = assigned.iter().map(|(place, _)| ends[place.0].0).sum();
    let meters = (target.meter(load)?, target.probe());
    let run = Run::start(load, Window::all(), Goal::Records(whole), meters);
    let (_tell, finish) = watch::channel(Finish::At(ends.into()));
    // Opening is part of reading: the broker sends as soon as a stream is open.
    let mut consumers = JoinSet::new();
    for who in assigned {
        let reader = read::open(target, &topics, who, load, StartFrom::Beginning).await?;
        consumers.spawn(reader.run(Look::Count, run.stage.clone(), finish.clone()));
    }
    let tally = joined(consumers).await;
    let mut measured = run.end(tally, |tally| &tally.delivered).await;
    tidy(target, &topics, &mut measured).await;
    Ok(measured)
}

/// Fills all partitions alike, and empties the broker's caches if the load wants that.
///
/// # Errors
/// The broker cannot be reached, or refuses.
pub(crate) async fn fill(
    target: &mut Target,
    topics: &BenchTopics,
    load: &Load,
) -> Result<(), BenchError> {
    let pool = Pool::new(load)?;
    let bar = progress::filling(load.fill());
    for place in topics.places() {
        let filler = Filler {
            target,
            topics,
            load,
            place,
        };
        filler.fill(&pool, &bar).await?;
    }
    bar.finish_and_clear();
    if load.cold {
        target.restart(load).await?;
    }
    Ok(())
}

struct Filler<'a> {
    target: &'a Target,
    topics: &'a BenchTopics,
    load: &'a Load,
    place: Place,
}

impl Filler<'_> {
    async fn fill(&self, pool: &Pool, bar: &indicatif::ProgressBar) -> Result<(), BenchError> {
        let Self {
            target,
            topics,
            load,
            place,
        } = *self;
        let seed = place.0 as u64;
        let shapes = Shapes::new(load, seed);
        let mut maker = target.batch_maker(topics, place, load, pool, seed);
        let made: Result<Vec<_>, _> = shapes.cycle().iter().map(|of| maker.plain(of)).collect();
        let batches = made?;
        let who = (place, Who::Producer(place.0));
        let (mut sender, mut acks) = target.producer(topics, who, load, AcksOption::All).await?;
        let (mut left, mut number, mut unanswered) = (Left::of(load, place), 0, 0);
        while !left.is_nothing() {
            if unanswered == FILL_IN_FLIGHT {
                stored(&mut acks).await?;
                unanswered -= 1;
            }
            let shape = shapes.of(number);
            sender.send(batches[shapes.index(number)].clone()).await?;
            left.take(shape.sizes.len() as u64, shape.bytes);
            bar.inc(shape.bytes);
            number += 1;
            unanswered += 1;
        }
        sender.finish();
        while stored(&mut acks).await? {}
        Ok(())
    }
}

/// Whether there was another answer. A batch that was refused would be missed later.
async fn stored(acks: &mut transport::Acknowledgements) -> Result<bool, BenchError> {
    match acks.next().await? {
        None => Ok(false),
        Some(millrace_model::ErrorCode::None) => Ok(true),
        Some(code) => Err(BenchError::Fill(code)),
    }
}

/// What is still to be put into one partition.
enum Left {
    Bytes(u64),
    Records(u64),
}

impl Left {
    fn of(load: &Load, place: Place) -> Self {
        let places = load.places() as u64;
        match load.count {
            Some(count) => {
                let (each, rest) = (count.get() / places, count.get() % places);
                Self::Records(each + u64::from((place.0 as u64) < rest))
            }
            None => Self::Bytes(load.fill().div_ceil(places)),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Records(0))
    }

    fn take(&mut self, records: u64, bytes: u64) {
        let (left, taken) = match self {
            Self::Bytes(left) => (left, bytes),
            Self::Records(left) => (left, records),
        };
        *left = left.saturating_sub(taken);
    }
}
