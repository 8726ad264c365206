//! Faults that a test plants in a replica on purpose, to prove that the checkers of the
//! simulations notice.

millrace_model::planted_faults! {
    /// `acks=all` is acknowledged when the leader has the record.
    AckBeforeHighWatermark,
    /// A new follower truncates to its high watermark.
    TruncateToHighWatermark,
    /// The leader takes any position for a beginning of its log.
    SkippedDivergence,
    /// The leader takes messages of any leader epoch for those of its own.
    SkippedFencing,
    /// The follower reports what it has accepted.
    ReportAccepted,
    /// A member that is to leave does not count any more.
    ShrinkBeforeCommit,
    /// A member that is to join does not count yet.
    JoinUncounted,
    /// A member counts with what it may have had in an earlier epoch.
    CountUnfetched,
    /// A replica joins below the start of the leader's epoch.
    JoinBelowEpochStart,
    /// The high watermark is whatever the lowest position is.
    FallingHighWatermark,
    /// Consumers are told a high watermark below the start of the leader's epoch.
    ExposedBeforeEpochStart,
    /// The high watermark advances with fewer members than `min.insync.replicas`.
    TooFewMembers,
    /// A proposal of unknown fate is forgotten.
    ForgottenProposal,
}
