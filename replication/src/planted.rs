//! Faults put in on purpose, one at a time in a thread, so that it can be shown that the
//! simulator notices. Without the feature `planted-faults` nothing can be planted, and the
//! questions below are constants.

#![cfg_attr(
    not(feature = "planted-faults"),
    expect(unreachable_pub, reason = "public only where it can be planted")
)]

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A voter elects a candidate whose log is shorter than its own.
    VoteForShorterLog,
    /// The in-sync set is changed without regard to the partition's version.
    BlindAlterPartition,
    /// A fenced replica may enter the in-sync set.
    FencedInSync,
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants this fault in this thread, or takes it out.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Planted>) {
    PLANTED.set(fault);
}

/// Whether this fault is planted here.
pub(crate) fn is_planted(fault: Planted) -> bool {
    #[cfg(feature = "planted-faults")]
    let planted = PLANTED.get() == Some(fault);
    #[cfg(not(feature = "planted-faults"))]
    let planted = {
        let _ = fault;
        false
    };
    planted
}
