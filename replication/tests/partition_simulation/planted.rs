//! Machines that are broken on purpose: each fault is noticed.

use millrace_replication::partition::planted::{Planted, plant};

use super::{Violation, run};

/// A planted fault shows within this many histories.
const UNTIL_CAUGHT: u64 = 1_500;

/// What was noticed first with this fault planted.
fn caught(fault: Planted) -> String {
    plant(Some(fault));
    let found = (0..UNTIL_CAUGHT).find_map(|seed| Some((seed, run(seed).err()?)));
    plant(None);
    let Some((seed, Violation(what))) = found else {
        panic!("{fault:?} stays unnoticed in {UNTIL_CAUGHT} histories");
    };
    println!("{fault:?}: seed {seed}: {what}");
    assert!(
        run(seed).is_ok(),
        "seed {seed} fails without {fault:?} as well"
    );
    what
}

macro_rules! noticed {
    ($($test:ident: $fault:ident, $($what:literal)|+;)*) => {$(
        #[test]
        fn $test() {
            let what = caught(Planted::$fault);
            assert!([$($what),+].iter().any(|part| what.contains(part)), "{what}");
        }
    )*};
}

noticed! {
    an_acknowledgement_before_the_high_watermark: AckBeforeHighWatermark,
        "acknowledged and not committed";
    a_truncation_to_the_high_watermark: TruncateToHighWatermark, "may be elected";
    a_skipped_comparison_of_epochs: SkippedDivergence,
        "is committed" | "where another has" | "may be elected";
    a_skipped_fencing: SkippedFencing, "may be elected" | "is committed" | "where another has" | "in sync after faults";
    a_position_that_is_not_durable: ReportAccepted, "may be elected" | "a position";
    a_member_forgotten_before_it_left: ShrinkBeforeCommit, "may be elected";
    a_member_that_joins_without_counting: JoinUncounted, "may be elected";
    a_member_counted_before_it_fetched: CountUnfetched, "may be elected";
    a_member_below_the_start_of_the_epoch: JoinBelowEpochStart, "may be elected";
    a_high_watermark_that_falls: FallingHighWatermark, "falls";
    an_end_shown_before_the_start_of_the_epoch: ExposedBeforeEpochStart, "had committed";
    a_high_watermark_of_too_few: TooFewMembers, "may be elected" | "is committed" | "had committed";
    a_proposal_that_is_forgotten: ForgottenProposal, "may be elected";
}
