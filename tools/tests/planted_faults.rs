//! The checkers of the simulator notice a log that is broken on purpose. Needs the feature
//! `planted-faults`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use millrace_storage::planted::{Planted, plant};
use millrace_tools::sim::{self, Failure};

/// A planted fault shows within this many histories.
const UNTIL_CAUGHT: u64 = 2_000;

/// The first failure with this fault planted.
fn caught(fault: Planted) -> Box<Failure> {
    plant(Some(fault));
    let failure = (0..UNTIL_CAUGHT).find_map(|seed| sim::run_history(seed, false).err());
    plant(None);
    let failure =
        failure.unwrap_or_else(|| panic!("{fault:?} stays unnoticed in {UNTIL_CAUGHT} histories"));
    let sound = sim::run_history(failure.seed, false);
    assert!(
        sound.is_ok(),
        "seed {} fails without the fault as well",
        failure.seed
    );
    failure
}

#[test]
fn an_acknowledgement_before_durability_is_caught() {
    let failure = caught(Planted::AckBeforeDurable);
    assert!(
        failure.violation.contains("lost what was kept"),
        "{failure}"
    );
}

#[test]
fn a_skipped_checksum_is_caught() {
    let failure = caught(Planted::SkippedCrc);
    let noticed = [
        "wrong bytes",
        "checksum",
        "must follow",
        "no frame",
        "padding",
        "batch",
        "never accepted",
    ];
    assert!(
        noticed.iter().any(|what| failure.violation.contains(what)),
        "{failure}"
    );
}

#[test]
fn a_wrong_truncation_is_caught() {
    let failure = caught(Planted::WrongTruncation);
    assert!(
        failure.violation.contains("lost what was kept"),
        "{failure}"
    );
}
