//! What all clients of a run share: the load, its time, its live count, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::measure::{Tally, Track};
use crate::options::Load;
use crate::progress::{Goal, Progress};
use crate::report::Measured;
use crate::stages::{Observation, Probe};
use crate::target::{BenchTopics, Target};
use crate::usage::{Meter, Metering, Usage};
use crate::window::{Clock, Window};

/// How long a run that ends by a count waits for a broker that answers nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How often it is looked at whether anything was answered.
const LOOK: Duration = Duration::from_secs(1);

/// Records that have counted so far, over all clients.
#[derive(Debug, Default)]
pub(crate) struct Live {
    acked: AtomicU64,
    delivered: AtomicU64,
}

impl Live {
    pub(crate) fn acked(&self, records: u64) {
        self.acked.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, records: u64) {
        self.delivered.fetch_add(records, Ordering::Relaxed);
    }

    /// Those of the side that is ahead: a record that got through is not counted twice.
    pub(crate) fn records(&self) -> u64 {
        let both = [&self.acked, &self.delivered].map(|of| of.load(Ordering::Relaxed));
        both[0].max(both[1])
    }
}

/// What a client of the run knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) load: Arc<Load>,
    pub(crate) clock: Clock,
    pub(crate) window: Window,
    /// What the run ends by, and the progress shows.
    pub(crate) live: Arc<Live>,
    /// Whether to wait no longer for what is still due.
    pub(crate) given_up: watch::Receiver<bool>,
}

impl Stage {
    /// Completes when the run waits no longer.
    pub(crate) async fn end(&self) {
        let mut given_up = self.given_up.clone();
        // The sender is dropped when the run is over, and so is who waits here.
        let _ = given_up.wait_for(|given_up| *given_up).await;
    }
}

/// A run that is under way.
pub(crate) struct Run {
    pub(crate) stage: Stage,
    metering: Metering,
    observation: Observation,
    watchdog: AbortHandle,
    _progress: Progress,
}

impl Run {
    /// The clock starts now. All connections should be there.
    pub(crate) fn start(
        load: &Load,
        window: Window,
        goal: Goal,
        (meter, probe): (Meter, Probe),
    ) -> Self {
        let clock = Clock::start();
        let live = Arc::new(Live::default());
        let (tell, given_up) = watch::channel(false);
        let watched = Arc::clone(&live);
        let watchdog = tokio::spawn(async move {
            match window.deadline() {
                Some(deadline) => tokio::time::sleep_until(clock.at(deadline).into()).await,
                None => silence(&watched).await,
            }
            let _ = tell.send(true);
            std::future::pending::<()>().await; // the word must stay
        });
        Self {
            metering: meter.start(clock.at(window.from)),
            observation: probe.start(clock.at(window.from)),
            watchdog: watchdog.abort_handle(),
            _progress: Progress::start(clock, window, goal, Arc::clone(&live)),
            stage: Stage {
                load: Arc::new(load.clone()),
                clock,
                window,
                live,
                given_up,
            },
        }
    }

    /// The end: all clients are done. `counted` is what the run is about.
    pub(crate) async fn end(self, mut tally: Tally, counted: fn(&Tally) -> &Track) -> Measured {
        self.watchdog.abort();
        let ended = self.stage.clock.now();
        let usage = self.metering.end().await.unwrap_or_else(|error| {
            tally.error(format!("what the broker took is not known: {error}"));
            Usage::default()
        });
        // One that was lost has nothing to tell, and would be waited for.
        let stages = match tally.lost.broken_at {
            Some(_) => None,
            None => self.observation.end().await,
        };
        let mut wall = self.stage.window.wall(counted(&tally).until);
        if tally.lost.broken_at.is_some() {
            // It may have ended before its time.
            let ran = ended.saturating_sub(self.stage.window.from);
            wall = wall.min(ran).max(counted(&tally).until);
            let last = tally.acked.until.max(tally.delivered.until);
            tally.lost.last_answer_at = Some(last.as_secs_f64());
        }
        Measured {
            tally,
            wall,
            usage,
            stages,
        }
    }
}

/// Completes when nothing more counts for too long.
async fn silence(live: &Live) {
    let (mut seen, mut silent) = (live.records(), Duration::ZERO);
    while silent < SILENCE {
        tokio::time::sleep(LOOK).await;
        let now = live.records();
        silent = if now == seen {
            silent + LOOK
        } else {
            Duration::ZERO
        };
        seen = now;
    }
}

/// What all of these clients did.
pub(crate) async fn joined(mut clients: JoinSet<Tally>) -> Tally {
    let mut sum = Tally::default();
    while let Some(tally) = clients.join_next().await {
        match tally {
            Ok(tally) => sum.merge(&tally),
            Err(error) => sum.error(error),
        }
    }
    sum
}

/// Removes the topics of a run. One that has failed is reported all the same, so a broker that
/// refuses, or is gone, is only another line of the report.
pub(crate) async fn tidy(target: &Target, topics: &BenchTopics, measured: &mut Measured) {
    if measured.tally.lost.broken_at.is_some() {
        return; // the broker has gone
    }
    if let Err(error) = target.delete(topics).await {
        measured.tally.error(error);
    }
}

/// Leaves the broker. A report that is there is not given up for one that ends badly.
pub(crate) async fn close(target: Target, mut measured: Measured) -> Measured {
    if let Err(error) = target.close().await {
        measured.tally.error(error);
    }
    measured
}
