//! Runs histories of the cluster, one or many at once, and catches what goes wrong.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::history::{self, Summary};
use super::world::with_names;
use crate::sim::runner::{Failure, Report, message};
use crate::sim::trace::Trace;

/// Lines that are shown of a history that fails.
const TAIL_LINES: usize = 100;

/// What many histories have to say together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// How many.
    pub histories: u64,
    /// All together, but for the longest healing.
    pub sum: Summary,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.sum;
        writeln!(
            f,
            "{} histories, {:.1} simulated hours: {} batches acknowledged, {} records read, {} offsets committed; \
             healed after {:.1} s at most",
            self.histories,
            sum.simulated_ms as f64 / 3_600_000.0,
            sum.acknowledged,
            sum.read,
            sum.commits,
            sum.healed_after_ms as f64 / 1000.0,
        )?;
        write!(f, "faults: {}", sum.faults)
    }
}

/// Runs the history of `seed`. `keep_all` keeps its whole trace.
///
/// # Errors
/// [`Failure`] with the first violation, or with the message of a panic.
pub fn run_history(seed: u64, keep_all: bool) -> Result<(Report, Summary), Box<Failure>> {
    let trace = Rc::new(Trace::with_tail(keep_all, TAIL_LINES));
    let of_run = Rc::clone(&trace);
    let ran = catch_unwind(AssertUnwindSafe(|| history::run(seed, of_run)));
    let violation = match ran {
        Ok(Ok(summary)) => {
            let report = Report {
                hash: trace.hash(),
                lines: lines(&trace),
            };
            return Ok((report, summary));
        }
        Ok(Err(violation)) => violation.0,
        Err(panic) => format!("panic: {}", message(panic.as_ref())),
    };
    Err(Box::new(Failure {
        seed,
        violation: with_names(&violation),
        lines: lines(&trace),
    }))
}

fn lines(trace: &Trace) -> Vec<String> {
    trace.lines().iter().map(|line| with_names(line)).collect()
}

/// Runs the histories of `histories` seeds from `first` on, on `jobs` threads, and calls `done` after each. Stops at
/// the first failure.
///
/// # Errors
/// The failure with the lowest seed of those that were seen.
pub fn run_many(
    first: u64,
    histories: u64,
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<Total, Box<Failure>> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let state: Mutex<(Total, Option<Box<Failure>>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= histories {
                        return;
                    }
                    let ran = run_history(first.wrapping_add(index), false);
                    let mut state = state.lock().expect("no thread panics with the lock held");
                    match ran {
                        Ok((_, summary)) => {
                            state.0.histories += 1;
                            state.0.sum.merge(&summary);
                        }
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            let lowest = state.1.as_ref().map(|other| other.seed);
                            if lowest.is_none_or(|lowest| failure.seed < lowest) {
                                state.1 = Some(failure);
                            }
                        }
                    }
                    drop(state);
                    done();
                }
            });
        }
    });
    let (total, failed) = state
        .into_inner()
        .expect("no thread panics with the lock held");
    failed.map_or(Ok(total), Err)
}
