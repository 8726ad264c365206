//! When the broker is killed: a plan for each cycle, from the seed.
//!
//! The plan repeats with the seed; what the broker does at that moment does not, for the
//! machine has a part in it.

use std::time::Duration;

use fastrand::Rng;

/// The longest that a broker runs in a cycle before it is killed.
const MAX_RUN: Duration = Duration::from_millis(250);

/// How often, in percent, a start is cut short by a kill.
const EARLY_KILL_PERCENT: u8 = 30;

/// How often, in percent, the writers are awaited before the run begins.
const AWAIT_WRITERS_PERCENT: u8 = 80;

/// Kills in a row before a start is left alone.
const MAX_EARLY_KILLS: usize = 3;

/// An early kill comes up to this many times the usual time to ready after the start: mostly
/// during start and recovery, sometimes just after the broker began to serve.
const EARLY_KILL_SPAN: f64 = 1.3;

/// One cycle: starts that are cut short, then one that serves and is killed, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Cycle {
    /// For each start that is cut short: when, as a share of the usual time to ready.
    pub early_kills: Vec<f64>,
    /// Whether the run begins when the writers are connected again, so that the kill meets a
    /// broker under load, or at once, so that it meets clients that connect.
    pub await_writers: bool,
    /// How long the broker serves before it is killed.
    pub run: Duration,
    /// Whether everything is read and checked while it serves.
    pub check: Check,
}

/// What is read in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Skip,
    /// Everything, before the kill.
    Whole,
    /// Everything, by readers that the kill interrupts and that go on after the restart.
    Interrupted,
}

impl Cycle {
    /// The next cycle.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let mut early_kills = Vec::new();
        while early_kills.len() < MAX_EARLY_KILLS && rng.u8(..100) < EARLY_KILL_PERCENT {
            early_kills.push(rng.f64() * EARLY_KILL_SPAN);
        }
        let check = match rng.u8(..10) {
            0..5 => Check::Whole,
            5..7 => Check::Interrupted,
            _ => Check::Skip,
        };
        Self {
            early_kills,
            await_writers: rng.u8(..100) < AWAIT_WRITERS_PERCENT,
            run: MAX_RUN.mul_f64(rng.f64().powi(2)),
            check,
        }
    }

    /// Kills in this cycle.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.early_kills.len() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let plan = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..50).map(|_| Cycle::random(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn every_kind_of_cycle_comes_soon() {
        let mut rng = Rng::with_seed(5);
        let cycles: Vec<_> = (0..60).map(|_| Cycle::random(&mut rng)).collect();
        for check in [Check::Skip, Check::Whole, Check::Interrupted] {
            assert!(cycles.iter().any(|cycle| cycle.check == check), "{check:?}");
        }
        assert!(cycles.iter().any(|cycle| cycle.early_kills.len() > 1));
        assert!(cycles.iter().any(|cycle| cycle.early_kills.is_empty()));
    }
}
