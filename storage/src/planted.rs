//! Faults that a test plants in the log on purpose, to prove that the checkers of the
//! simulator notice. Without the feature `planted-faults` nothing can be planted, and the
//! question costs nothing.

/// A way in which the log is broken on purpose.
#[cfg_attr(
    not(feature = "planted-faults"),
    allow(unreachable_pub, reason = "public with the feature")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Appends are acknowledged before they are durable.
    AckBeforeDurable,
    /// Bytes read from a segment are served unchecked.
    SkippedCrc,
    /// A torn tail is cut, and so is the last sound write before it.
    WrongTruncation,
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in all logs of this thread, or takes it away.
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
