//! The checkers of the cluster's simulator notice machines that are broken on purpose. Needs the feature
//! `planted-faults`.
//!
//! Not here are faults that stayed unnoticed in 600 histories of a whole cluster, and that the simulations of the parts notice: a high watermark
//! that falls, a proposal that is forgotten, an in-sync set that is changed blindly, a fenced replica in sync.

use millrace_groups::planted as groups;
use millrace_replication::partition::planted as replicas;
use millrace_replication::planted as metadata;
use millrace_storage::planted as storage;
use millrace_tools::sim::cluster;

/// A planted fault shows within this many histories.
const UNTIL_CAUGHT: u64 = 600;

/// A fault, in whichever crate.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Replica(replicas::Planted),
    Metadata(metadata::Planted),
    Storage(storage::Planted),
    Groups(groups::Planted),
}

impl Fault {
    fn plant(self) {
        match self {
            Self::Replica(fault) => replicas::plant(Some(fault)),
            Self::Metadata(fault) => metadata::plant(Some(fault)),
            Self::Storage(fault) => storage::plant(Some(fault)),
            Self::Groups(fault) => groups::plant(Some(fault)),
        }
    }
}

fn plant_nothing() {
    replicas::plant(None);
    metadata::plant(None);
    storage::plant(None);
    groups::plant(None);
}

/// What is noticed first with this fault planted.
fn caught(fault: Fault) -> String {
    fault.plant();
    let failure = (0..UNTIL_CAUGHT).find_map(|seed| cluster::run_history(seed, false).err());
    plant_nothing();
    let failure =
        failure.unwrap_or_else(|| panic!("{fault:?} stays unnoticed in {UNTIL_CAUGHT} histories"));
    let sound = cluster::run_history(failure.seed, false);
    assert!(
        sound.is_ok(),
        "seed {} fails without {fault:?} as well",
        failure.seed
    );
    eprintln!("{fault:?}: seed {}: {}", failure.seed, failure.violation);
    failure.violation
}

macro_rules! noticed {
    ($($test:ident: $kind:ident $place:ident $fault:ident;)*) => {$(
        #[test]
        fn $test() {
            caught(Fault::$kind($place::Planted::$fault));
        }
    )*};
}

noticed! {
    an_acknowledgement_before_the_high_watermark: Replica replicas AckBeforeHighWatermark;
    a_truncation_to_the_high_watermark: Replica replicas TruncateToHighWatermark;
    a_skipped_comparison_of_epochs: Replica replicas SkippedDivergence;
    a_skipped_fencing: Replica replicas SkippedFencing;
    a_position_that_is_not_durable: Replica replicas ReportAccepted;
    a_member_forgotten_before_it_left: Replica replicas ShrinkBeforeCommit;
    a_member_that_joins_without_counting: Replica replicas JoinUncounted;
    a_member_counted_before_it_fetched: Replica replicas CountUnfetched;
    a_member_below_the_start_of_the_epoch: Replica replicas JoinBelowEpochStart;
    an_end_shown_before_the_start_of_the_epoch: Replica replicas ExposedBeforeEpochStart;
    a_high_watermark_of_too_few: Replica replicas TooFewMembers;
    a_vote_for_a_shorter_log: Metadata metadata VoteForShorterLog;
    a_leader_epoch_used_again: Metadata metadata ReusedLeaderEpoch;
    an_unclean_election_that_nobody_asked_for: Metadata metadata UncleanElection;
    an_acknowledgement_before_durability: Storage storage AckBeforeDurable;
    a_wrong_truncation: Storage storage WrongTruncation;
    a_sequence_that_followers_forget: Storage storage ForgottenSequences;
    offsets_that_are_not_replayed: Groups groups OffsetsNotReplayed;
    an_answer_of_a_group_before_its_write: Groups groups AnswerBeforeWritten;
}
