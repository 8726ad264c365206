//! A randomized run of many virtual clients of both protocols against one coordinator, which is killed and
//! replayed now and then. The same seed gives the same run.
//!
//! What must hold, and shares no code with the machine: no two members read a partition at one moment; every
//! partition is read again within a bound after the last change; no acknowledged commit is lost; each ticket is
//! answered once. `MODEL_SEED` runs one seed only, `MODEL_TRACE` prints what happened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a seed that fails is to be found")]

#[path = "model/blobs.rs"]
mod blobs;
#[path = "model/client.rs"]
mod client;
#[path = "model/ledger.rs"]
mod ledger;
#[path = "model/world.rs"]
mod world;

use world::World;

const SEEDS: u64 = 8;
const ROUNDS: usize = 4;
const STEPS: usize = 500;

struct Printed(World);

impl Drop for Printed {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("MODEL_TRACE").is_some() {
            self.0.trace.iter().for_each(|line| println!("{line}"));
        }
    }
}

fn run(seed: u64, rounds: usize) -> Printed {
    println!("seed {seed}");
    let mut world = Printed(World::new(seed));
    for _ in 0..rounds {
        for _ in 0..STEPS {
            world.0.step();
        }
        world.0.calm();
    }
    world
}

#[test]
fn nothing_is_read_twice_or_left_or_lost() {
    let seeds = match std::env::var("MODEL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    let mut upgrades = 0;
    let mut downgrades = 0;
    for seed in &seeds {
        let world = run(*seed, ROUNDS);
        let seen = &world.0.seen;
        println!("{seen:?}");
        assert!(
            seen.restarts >= ROUNDS && seen.acknowledged > 100,
            "{seen:?}"
        );
        upgrades += seen.upgrades;
        downgrades += seen.downgrades;
    }
    if seeds.len() > 1 {
        assert!(upgrades > 0 && downgrades > 0, "no group has migrated");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert!(run(7, 1).0.trace == run(7, 1).0.trace);
}
