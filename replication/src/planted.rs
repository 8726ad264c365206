//! Faults that a test plants in the quorum and in the metadata on purpose, to prove that the
//! checkers of the simulations notice.

millrace_model::planted_faults! {
    /// A voter elects a candidate whose log is shorter than its own.
    VoteForShorterLog,
    /// The in-sync set is changed without regard to the partition's version.
    BlindAlterPartition,
    /// A fenced replica may enter the in-sync set.
    FencedInSync,
    /// A new leader has the leader epoch of the one before.
    ReusedLeaderEpoch,
    /// Whoever is there is elected, in sync or not.
    UncleanElection,
}
