//! The highest rate that keeps a latency bound: open loops one after the other on the same broker,
//! first at twice the rate as long as the bound is kept, then between the highest that kept it and
//! the lowest that did not, until the two are close.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::options::{Bound, Load};
use crate::report::{Kind, Measured, Report};
use crate::target::Target;
use crate::{BenchError, e2e, mixed, produce};

/// The first rate unless the load has one.
const FIRST_RATE: u32 = 1_000;

/// Up to this ratio between a rate that failed and one that passed the search goes on: closer
/// than that two runs of the same rate differ.
const CLOSE: f64 = 1.05;

/// Times that a rate is tried before it counts as too high: one hiccup of the machine is no
/// judgement.
const TRIES: u32 = 2;

/// Steps at most, failed tries among them. Twenty doublings are a factor of a million.
const MAX_STEPS: usize = 48;

/// Looks for the highest rate that passes.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    rate: u32,
    tries: u32,
    steps: usize,
    passed: Option<u32>,
    failed: Option<u32>,
}

impl Search {
    /// A search that begins with this rate.
    #[must_use]
    pub fn new(first: NonZeroU32) -> Self {
        Self {
            rate: first.get(),
            tries: 0,
            steps: 0,
            passed: None,
            failed: None,
        }
    }

    /// The rate to try now, or none when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<NonZeroU32> {
        let close = self
            .passed
            .zip(self.failed)
            .is_some_and(|(passed, failed)| {
                f64::from(failed) <= f64::from(passed) * CLOSE || failed - passed <= 1
            });
        let over = close || self.steps >= MAX_STEPS;
        NonZeroU32::new(self.rate).filter(|_| !over)
    }

    /// The highest rate that passed.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.passed
    }

    /// The rate of [`Self::next`] has been tried.
    pub fn judge(&mut self, passed: bool) {
        self.steps += 1;
        self.tries += 1;
        if !passed && self.tries < TRIES {
            return;
        }
        self.tries = 0;
        match passed {
            true => self.passed = Some(self.rate),
            false => self.failed = Some(self.rate),
        }
        self.rate = match (self.passed, self.failed) {
            (Some(passed), None) if passed == u32::MAX => 0,
            (Some(passed), None) => passed.saturating_mul(2),
            (None, Some(failed)) => failed / 2,
            (Some(passed), Some(failed)) => {
                let between = (f64::from(passed) * f64::from(failed)).sqrt();
                // Within the two, which differ by more than one here.
                (between.round() as u32).clamp(passed, failed)
            }
            (None, None) => self.rate,
        };
    }
}

/// One rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Records per second that were asked for.
    pub rate: u32,
    /// Records per second that were reached.
    pub records_per_second: f64,
    /// The latency at the quantile of the bound, in microseconds.
    pub latency_us: f64,
    /// Whether the bound was kept, at this rate and without errors.
    pub kept: bool,
}

/// What a ramp found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// The bound, as it was asked for.
    pub bound: String,
    /// The rates in the order in which they were tried.
    pub steps: Vec<Step>,
    /// The highest rate that kept the bound.
    pub highest: Option<u32>,
}

/// Runs the ramp. The report is that of the highest rate that kept the bound, or of the last one
/// that was tried if none did, or if the broker was lost.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(kind: Kind, load: &Load, bound: Bound) -> Result<Report, BenchError> {
    let first = NonZeroU32::new(FIRST_RATE).expect("it is a constant above zero");
    let mut search = Search::new(load.rate.unwrap_or(first));
    let (mut steps, mut best, mut last) = (Vec::new(), None, None);
    let mut target = Target::open(load).await?;
    while let Some(rate) = search.next() {
        let load = Load {
            rate: Some(rate),
            ..load.clone()
        };
        let measured = once(&mut target, kind, &load).await?;
        let report = Report::new(kind, &load, &measured);
        let step = step(rate.get(), bound, &measured, &report);
        show(bound, &step);
        steps.push(step);
        search.judge(step.kept);
        let broken = report.lost.broken_at.is_some();
        if step.kept {
            best = Some(report);
        } else {
            last = Some(report);
        }
        if broken {
            best = None;
            break;
        }
    }
    let closed = target.close().await;
    let report = best.or(last);
    let mut report = report.expect("the first rate is above zero, so it was tried");
    if let Err(error) = closed {
        report.errors.insert(error.to_string(), 1);
    }
    report.ramp = Some(Ramp {
        bound: bound.to_string(),
        steps,
        highest: search.highest(),
    });
    Ok(report)
}

async fn once(target: &mut Target, kind: Kind, load: &Load) -> Result<Measured, BenchError> {
    match kind {
        Kind::Produce => produce::run_on(target, load).await,
        Kind::E2e => e2e::run_on(target, load).await,
        Kind::Mixed => mixed::run_on(target, load).await,
        Kind::Consume => {
            let why = "--ramp raises the rate of producers: run produce, e2e or mixed";
            Err(BenchError::Options(why.to_owned()))
        }
    }
}

fn step(rate: u32, bound: Bound, measured: &Measured, report: &Report) -> Step {
    let tally = &measured.tally;
    let latencies = match report.mode {
        Kind::E2e => &tally.delivered.latencies,
        _ => &tally.acked.latencies,
    };
    let latency = latencies.quantile(bound.quantile.share());
    let measured = latencies.count() > 0;
    Step {
        rate,
        records_per_second: report.achieved_rate.unwrap_or(report.records_per_second),
        latency_us: latency.as_nanos() as f64 / 1e3,
        kept: measured && latency <= bound.latency && report.is_sound(),
    }
}

/// A ramp takes minutes, so each step is told when it is done.
fn show(bound: Bound, step: &Step) {
    eprintln!("{}", step.line(&bound.quantile.to_string()));
}

impl Step {
    /// The step in a line. `quantile` is where its latency was looked at.
    #[must_use]
    pub fn line(&self, quantile: &str) -> String {
        let kept = if self.kept { "kept" } else { "NOT kept" };
        format!(
            "  {:>9} records/s: {:.0} reached, {quantile} {:.0} us, {kept}",
            self.rate, self.records_per_second, self.latency_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a broker that can do `most` is asked for, until the search is over.
    fn searched(first: u32, passes: impl Fn(u32, usize) -> bool) -> (Search, Vec<u32>) {
        let mut search = Search::new(NonZeroU32::new(first).unwrap());
        let mut asked = Vec::new();
        while let Some(rate) = search.next() {
            search.judge(passes(rate.get(), asked.len()));
            asked.push(rate.get());
        }
        (search, asked)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for first in [1, 1_000, 90_000, 100_000, 5_000_000] {
            for most in [7, 1_234, 99_999, 3_000_000] {
                let (search, asked) = searched(first, |rate, _| rate <= most);
                let found = search.highest().expect("some rate passes");
                assert!(found <= most && f64::from(found) * CLOSE + 1.0 >= f64::from(most));
                assert!(asked.len() < MAX_STEPS, "{first} to {most}: {asked:?}");
            }
        }
    }

    #[test]
    fn one_hiccup_decides_nothing() {
        let (calm, _) = searched(1_000, |rate, _| rate <= 50_000);
        let (hiccups, _) = searched(1_000, |rate, step| rate <= 50_000 && step != 2);
        assert_eq!(calm.highest(), hiccups.highest());
    }

    #[test]
    fn it_ends_where_nothing_passes_and_where_everything_does() {
        let (nothing, _) = searched(1_000, |_, _| false);
        assert_eq!(nothing.highest(), None);
        let (everything, _) = searched(1_000, |_, _| true);
        assert_eq!(everything.highest(), Some(u32::MAX));
    }
}
