//! Fuzz runs: the fuzz bodies of the crates, fed with inputs that are nearly valid.
//!
//! A body is a public function of its crate that must not panic, whatever it is given; it
//! asserts by itself what must hold of what it accepted. A run is repeatable: the same target
//! and seed give the same inputs. No coverage is measured; `tools/guided-fuzz` calls the same
//! bodies guided by it.

pub mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use targets::targets;

/// Runs between two looks at the clock.
const RUNS_PER_LOOK: u64 = 256;

/// A fuzz body and inputs that it accepts.
#[derive(Clone, Debug)]
pub struct Target {
    /// `<crate>::<body>`, as on the command line.
    pub name: &'static str,
    /// The body.
    pub body: fn(&[u8]),
    /// Valid inputs to start from.
    pub corpus: Vec<Vec<u8>>,
}

/// How long to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// This many inputs.
    Runs(u64),
    /// This long.
    Time(Duration),
}

/// An input that made a body panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The target's name.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// How many runs came before it.
    pub run: u64,
}

impl Target {
    /// A target with these valid inputs.
    #[must_use]
    pub fn new(name: &'static str, body: fn(&[u8]), corpus: Vec<Vec<u8>>) -> Self {
        Self { name, body, corpus }
    }

    /// Feeds the body until the budget is spent; the number of runs.
    ///
    /// # Errors
    /// The first input that makes it panic.
    pub fn fuzz(&self, seed: u64, budget: Budget) -> Result<u64, Finding> {
        let mut rng = Rng::with_seed(seed);
        for (run, valid) in (0..).zip(&self.corpus) {
            self.run_one(valid, run)?;
        }
        let started = Instant::now();
        let mut run = 0;
        while !budget.is_spent(run, started) {
            self.run_one(&mutate::input(&mut rng, &self.corpus), run)?;
            run += 1;
        }
        Ok(run)
    }

    /// Feeds the body one input.
    ///
    /// # Errors
    /// The input, when it makes the body panic.
    pub fn run_one(&self, input: &[u8], run: u64) -> Result<(), Finding> {
        catch_unwind(AssertUnwindSafe(|| (self.body)(input))).map_err(|_| Finding {
            target: self.name,
            input: input.to_vec(),
            run,
        })
    }
}

impl Budget {
    fn is_spent(self, runs: u64, started: Instant) -> bool {
        match self {
            Self::Runs(most) => runs >= most,
            Self::Time(longest) => {
                runs.is_multiple_of(RUNS_PER_LOOK) && started.elapsed() >= longest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts what starts with the right four bytes, and trips over a length above 200.
    fn planted(input: &[u8]) {
        if let Some([b'M', b'R', b'Q', b'1', len, ..]) = input.get(..8) {
            assert!(*len <= 200, "a planted bug");
        }
    }

    #[test]
    fn a_planted_bug_behind_a_check_is_found_and_repeats() {
        let target = Target {
            name: "planted",
            body: planted,
            corpus: vec![b"MRQ1\x05\0\0\0hello".to_vec()],
        };
        let finding = target.fuzz(3, Budget::Runs(100_000)).unwrap_err();
        assert_eq!(target.fuzz(3, Budget::Runs(100_000)).unwrap_err(), finding);
        assert!(target.run_one(&finding.input, 0).is_err());
        assert!(finding.input[4] > 200);
    }

    #[test]
    fn every_target_survives_a_short_run() {
        for target in targets() {
            let runs = target.fuzz(1, Budget::Runs(2_000));
            assert_eq!(runs, Ok(2_000), "{}", target.name);
        }
    }
}
