//! Faults that a test plants in the log on purpose, to prove that the checkers of the
//! simulators notice.

millrace_model::planted_faults! {
    /// Appends are acknowledged before they are durable.
    AckBeforeDurable,
    /// Bytes read from a segment are served unchecked.
    SkippedCrc,
    /// A torn tail is cut, and so is the last sound write before it.
    WrongTruncation,
    /// A follower does not remember what producers have sent.
    ForgottenSequences,
}
