//! What recovery does about what it finds: one table, and nothing else.

use crate::scan::{Beyond, Stop};
use millrace_model::Offset;

/// What a scanned segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The last segment, which may end in a write that a crash has torn.
    Last,
    /// A segment with another one after it. It was sealed before that one was made, so its
    /// data was whole.
    Inner {
        /// Offset of the first record of the next segment.
        next_base: Offset,
    },
}

/// Where a scan ended, and what lies behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) role: Role,
    /// The offset that would have come next.
    pub(crate) expected: Offset,
    pub(crate) stop: Stop,
    pub(crate) beyond: Beyond,
    pub(crate) truncation: Truncation,
}

/// What a truncation that was begun before the crash has to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncation {
    /// Nothing.
    None,
    /// The scan came to its place.
    Reached,
    /// The scan ended below its place. All that stands there was durable when it was begun.
    Short,
}

/// What to do about a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The segment ends cleanly; nothing to do.
    Keep,
    /// The tail was not acknowledged: take it away.
    Cut,
    /// All data is there; only the footer is to be made again.
    Reseal,
    /// Acknowledged data is damaged or missing: touch nothing, serve what is below.
    Refuse,
}

/// The table.
pub(crate) fn decide(finding: &Finding) -> Decision {
    let complete = match finding.role {
        Role::Inner { next_base } => Some(finding.expected == next_base),
        Role::Last => None,
    };
    match (
        complete,
        &finding.stop,
        finding.beyond.vouches,
        finding.beyond.remains,
    ) {
        _ if finding.truncation == Truncation::Reached => Decision::Cut,
        _ if finding.truncation == Truncation::Short => Decision::Refuse,
        (Some(true), _, _, _) => Decision::Reseal,
        (Some(false), _, _, _) => Decision::Refuse,
        (None, _, Some(_), _) => Decision::Refuse,
        (None, Stop::EndOfFile | Stop::Zeros, None, false) => Decision::Keep,
        (None, Stop::EndOfFile | Stop::Zeros, None, true) => Decision::Cut,
        (None, Stop::Invalid(_) | Stop::NotContinuation { .. } | Stop::Length, None, _) => {
            Decision::Cut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use millrace_model::FrameError;

    fn last(stop: Stop, remains: bool, vouches: bool) -> Decision {
        let vouches = vouches.then_some((Position(4096), Offset(20)));
        decide(&Finding {
            role: Role::Last,
            expected: Offset(10),
            stop,
            beyond: Beyond { remains, vouches },
            truncation: Truncation::None,
        })
    }

    fn inner(expected: u64) -> Decision {
        decide(&Finding {
            role: Role::Inner {
                next_base: Offset(10),
            },
            expected: Offset(expected),
            stop: Stop::Invalid(FrameError::Checksum),
            beyond: Beyond {
                remains: true,
                vouches: None,
            },
            truncation: Truncation::None,
        })
    }

    #[test]
    fn the_last_segment() {
        assert_eq!(last(Stop::EndOfFile, false, false), Decision::Keep);
        assert_eq!(last(Stop::Zeros, false, false), Decision::Keep);
        assert_eq!(last(Stop::Zeros, true, false), Decision::Cut);
        assert_eq!(last(Stop::Zeros, true, true), Decision::Refuse);
        assert_eq!(last(Stop::Length, false, false), Decision::Cut);
        assert_eq!(
            last(Stop::Invalid(FrameError::Checksum), true, false),
            Decision::Cut
        );
        assert_eq!(
            last(Stop::Invalid(FrameError::Checksum), true, true),
            Decision::Refuse
        );
    }

    #[test]
    fn an_inner_segment_is_whole_or_damaged() {
        assert_eq!(inner(10), Decision::Reseal);
        assert_eq!(inner(9), Decision::Refuse);
        assert_eq!(inner(11), Decision::Refuse);
    }

    #[test]
    fn a_truncation_that_was_begun_is_finished_but_hides_no_damage() {
        let finding = Finding {
            role: Role::Last,
            expected: Offset(10),
            stop: Stop::Zeros,
            beyond: Beyond {
                remains: true,
                vouches: Some((Position(0), Offset(20))),
            },
            truncation: Truncation::Reached,
        };
        assert_eq!(decide(&finding), Decision::Cut);
        let short = Finding {
            truncation: Truncation::Short,
            beyond: Beyond::default(),
            ..finding
        };
        assert_eq!(decide(&short), Decision::Refuse);
    }
}
