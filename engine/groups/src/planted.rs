//! Faults that a test plants in the coordinator on purpose, to prove that the checkers of the
//! simulator notice.

millrace_model::planted_faults! {
    /// Committed offsets are passed over when the log is replayed.
    OffsetsNotReplayed,
    /// Answers leave before what they promise is durable.
    AnswerBeforeWritten,
}
