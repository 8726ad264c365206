//! Runs histories, one or many at once, and catches what goes wrong.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::trace::{Trace, Violation};
use super::{history, prefix};

/// A history that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The same for each run of a seed.
    pub hash: u64,
    /// What happened: everything if asked for, else the end of it.
    pub lines: Vec<String>,
}

/// A history in which something happened that must not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Reproduces it.
    pub seed: u64,
    /// What happened.
    pub violation: String,
    /// What led to it.
    pub lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.violation)
    }
}

/// Runs the history of `seed`. `keep_all` keeps its whole trace.
///
/// # Errors
/// [`Failure`] with the first violation, or with the message of a panic.
pub fn run_history(seed: u64, keep_all: bool) -> Result<Report, Box<Failure>> {
    let trace = Rc::new(Trace::new(keep_all));
    caught(seed, &trace, history::run)?;
    Ok(Report {
        hash: trace.hash(),
        lines: trace.lines(),
    })
}

/// Runs a workload without faults, and opens and checks the disk as each prefix of its
/// writes leaves it. Returns how many prefixes there were.
///
/// # Errors
/// As [`run_history`].
pub fn run_every_prefix(seed: u64) -> Result<usize, Box<Failure>> {
    caught(seed, &Rc::new(Trace::new(false)), prefix::run)
}

fn caught<T>(
    seed: u64,
    trace: &Rc<Trace>,
    run: impl FnOnce(u64, Rc<Trace>) -> Result<T, Violation>,
) -> Result<T, Box<Failure>> {
    let ran = catch_unwind(AssertUnwindSafe(|| run(seed, Rc::clone(trace))));
    let violation = match ran {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(violation)) => violation.0,
        Err(panic) => format!("panic: {}", message(panic.as_ref())),
    };
    Err(Box::new(Failure {
        seed,
        violation,
        lines: trace.lines(),
    }))
}

/// Runs the histories of `histories` seeds from `first` on, on `jobs` threads, and calls
/// `done` after each. Stops at the first failure.
///
/// # Errors
/// The failure with the lowest seed of those that were seen.
pub fn run_many(
    first: u64,
    histories: u64,
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<(), Box<Failure>> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<Box<Failure>>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= histories {
                        return;
                    }
                    if let Err(failure) = run_history(first.wrapping_add(index), false) {
                        stop.store(true, Ordering::Relaxed);
                        keep_lowest(&failed, failure);
                    }
                    done();
                }
            });
        }
    });
    let failed = failed
        .into_inner()
        .expect("no thread panics with the lock held");
    failed.map_or(Ok(()), Err)
}

fn keep_lowest(failed: &Mutex<Option<Box<Failure>>>, failure: Box<Failure>) {
    let mut failed = failed.lock().expect("no thread panics with the lock held");
    if failed
        .as_ref()
        .is_none_or(|other| failure.seed < other.seed)
    {
        *failed = Some(failure);
    }
}

pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
