//! Producers and consumers together: each value carries when it was due.

use std::sync::Arc;
use std::time::Duration;

use millrace_model::Offset;
use tokio::sync::watch;

use crate::BenchError;
use crate::measure::Tally;
use crate::options::{Load, StartFrom};
use crate::produce::{self, Stamping};
use crate::read::{self, Finish, Look};
use crate::report::Measured;
use crate::stage::{Run, close, joined, tidy};
use crate::target::{BenchTopics, Target};
use crate::window::Window;

/// How long the broker may take to say where its partitions end. One that has died says nothing.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs producers and consumers, until all that was acknowledged was read.
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
    // The topics are new: their beginning is their tail.
    let readers = read::open_all(target, &topics, load, StartFrom::Beginning).await?;
    let producers = produce::open(target, &topics, load, Stamping::Each).await?;
    let meters = (target.meter(load)?, target.probe());
    let run = Run::start(load, Window::new(load), produce::goal(load), meters);
    let (tell, finish) = watch::channel(Finish::Open);
    let consumers = read::start(readers, Look::at_stamps(load), &run.stage, &finish);
    let mut tally = joined(produce::start(producers, &run.stage)).await;
    let told = match told(target, &topics, &tally).await {
        Ok(ends) => Finish::At(Arc::new(ends)),
        Err(error) => {
            error.into_iter().for_each(|error| tally.error(error));
            Finish::Now
        }
    };
    let unread = matches!(told, Finish::Now);
    // Consumers that have failed are gone; their tallies say why.
    let _ = tell.send(told);
    tally.merge(&joined(consumers).await);
    if unread {
        tally.lost.undelivered = not_read(&tally, load);
    }
    let mut measured = run.end(tally, |tally| &tally.acked).await;
    tidy(target, &topics, &mut measured).await;
    Ok(measured)
}

/// How far consumers are to read; or why not, unless the producers have said it.
async fn told(
    target: &Target,
    topics: &BenchTopics,
    tally: &Tally,
) -> Result<Vec<Offset>, Option<BenchError>> {
    if tally.lost.broken_at.is_some() {
        return Err(None);
    }
    let found = tokio::time::timeout(END_TIMEOUT, ends(target, topics)).await;
    let silent = BenchError::Unanswered("where its partitions end");
    found.unwrap_or(Err(silent)).map_err(Some)
}

/// Where each partition ends.
///
/// # Errors
/// The broker cannot be reached or refuses.
pub(crate) async fn ends(target: &Target, topics: &BenchTopics) -> Result<Vec<Offset>, BenchError> {
    let mut ends = Vec::new();
    for place in topics.places() {
        ends.push(target.end(topics, place).await?);
    }
    Ok(ends)
}

/// Records that were acknowledged and reached no consumer, where each has one.
fn not_read(tally: &Tally, load: &Load) -> u64 {
    match load.consumers() <= load.places() {
        true => tally.acked.records.saturating_sub(tally.delivered.records),
        false => 0,
    }
}
