//! Producers and consumers at once, each as fast as it can, or at its rate: what comes in and what
//! goes out are counted apart, both by the same wall time.
//!
//! Consumers at the tail read what the producers send meanwhile. Consumers at the beginning read a
//! topic that was filled before, and when they have caught up follow the producers.

use tokio::sync::watch;

use crate::BenchError;
use crate::consume;
use crate::measure::{Tally, Track};
use crate::options::{Load, StartFrom};
use crate::produce::{self, Stamping};
use crate::read::{self, Finish, Look};
use crate::report::{Kind, Measured};
use crate::stage::{Run, close, joined, tidy};
use crate::target::Target;
use crate::window::Window;

/// Runs both.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    let mut target = Target::open(load).await?;
    let measured = run_on(&mut target, load).await?;
    Ok(close(target, measured).await)
}

pub(crate) async fn run_on(target: &mut Target, load: &Load) -> Result<Measured, BenchError> {
    both(target, load, load.start(Kind::Mixed), |tally| &tally.acked).await
}

/// Runs producers and consumers. `counted` is what the run is about.
pub(crate) async fn both(
    target: &mut Target,
    load: &Load,
    from: StartFrom,
    counted: fn(&Tally) -> &Track,
) -> Result<Measured, BenchError> {
    let topics = target.topics(load).await?;
    if from == StartFrom::Beginning {
        consume::fill(target, &topics, load).await?;
    }
    let readers = read::open_all(target, &topics, load, from).await?;
    let producers = produce::open(target, &topics, load, Stamping::Once).await?;
    let meters = (target.meter(load)?, target.probe());
    let run = Run::start(load, Window::new(load), produce::goal(load), meters);
    let (tell, finish) = watch::channel(Finish::Open);
    let consumers = read::start(readers, Look::Count, &run.stage, &finish);
    let mut tally = joined(produce::start(producers, &run.stage)).await;
    // Consumers that have failed are gone; their tallies say why.
    let _ = tell.send(Finish::Now);
    tally.merge(&joined(consumers).await);
    let mut measured = run.end(tally, counted).await;
    tidy(target, &topics, &mut measured).await;
    Ok(measured)
}
