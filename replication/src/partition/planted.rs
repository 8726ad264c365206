//! Faults that a test plants in a replica on purpose, to prove that the simulation's checkers
//! notice. Without the feature `planted-faults` nothing can be planted, and the question
//! costs nothing.

/// A way in which a replica is broken on purpose.
#[cfg_attr(
    not(feature = "planted-faults"),
    allow(unreachable_pub, reason = "public with the feature")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
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

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in all replicas of this thread, or takes it away.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}

/// Whether this fault is planted here.
pub(super) fn is_planted(fault: Planted) -> bool {
    #[cfg(feature = "planted-faults")]
    let planted = PLANTED.get() == Some(fault);
    #[cfg(not(feature = "planted-faults"))]
    let planted = {
        let _ = fault;
        false
    };
    planted
}
