//! Which segments go: those below the log start, those that are too old, and the oldest of
//! a log that is too large. Pure.

use millrace_model::{Offset, Timestamp, TopicSettings};

/// What retention looks at in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    /// Offset after its last record.
    pub(crate) next: Offset,
    pub(crate) bytes: u64,
    /// Its youngest record, or when it was sealed if its records have no timestamps.
    pub(crate) youngest: Timestamp,
    pub(crate) sealed: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Expired {
    /// So many of the oldest segments go.
    pub(crate) segments: usize,
    /// The last segment is due too, once it is sealed.
    pub(crate) seal_last: bool,
}

/// Judges the segments of a log, oldest first. None that reaches above `keep_from` goes.
pub(crate) fn expired(
    segments: impl ExactSizeIterator<Item = SegmentFacts> + Clone,
    settings: &TopicSettings,
    (log_start, keep_from): (Offset, Offset),
    now: Timestamp,
) -> Expired {
    let mut bytes_left: u64 = segments.clone().map(|s| s.bytes).sum();
    let mut expired = Expired::default();
    for segment in segments {
        bytes_left -= segment.bytes;
        let too_large = settings
            .retention_bytes
            .is_some_and(|keep| bytes_left >= keep);
        let too_old = is_older(segment.youngest, now, settings.retention_ms);
        let below_start = segment.next <= log_start;
        match segment.sealed {
            true if segment.next > keep_from => return expired,
            true if below_start || too_old || too_large => expired.segments += 1,
            true => return expired,
            false => expired.seal_last = too_old,
        }
    }
    expired
}

/// When the oldest segment will be too old, if time alone decides.
pub(crate) fn due(oldest: SegmentFacts, settings: &TopicSettings) -> Option<Timestamp> {
    let keep = i64::try_from(settings.retention_ms?).ok()?;
    Some(Timestamp(
        oldest.youngest.0.saturating_add(keep).saturating_add(1),
    ))
}

fn is_older(youngest: Timestamp, now: Timestamp, retention_ms: Option<u64>) -> bool {
    let Some(keep) = retention_ms else {
        return false;
    };
    let age = now.0.saturating_sub(youngest.0);
    u64::try_from(age).is_ok_and(|age| age > keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_BOUND: Offset = Offset(u64::MAX);

    fn segment(next: u64, youngest: i64, sealed: bool) -> SegmentFacts {
        SegmentFacts {
            next: Offset(next),
            bytes: 100,
            youngest: Timestamp(youngest),
            sealed,
        }
    }

    fn log() -> Vec<SegmentFacts> {
        vec![
            segment(10, 5, true),
            segment(20, 50, true),
            segment(30, 60, false),
        ]
    }

    fn judge(ms: Option<u64>, bytes: Option<u64>, start: u64, now: i64) -> (usize, bool) {
        let settings = TopicSettings {
            retention_ms: ms,
            retention_bytes: bytes,
            ..TopicSettings::default()
        };
        let expired = expired(
            log().into_iter(),
            &settings,
            (Offset(start), NO_BOUND),
            Timestamp(now),
        );
        (expired.segments, expired.seal_last)
    }

    #[test]
    fn age() {
        assert_eq!(judge(None, None, 0, 1_000_000), (0, false));
        assert_eq!(judge(Some(10), None, 0, 15), (0, false));
        assert_eq!(judge(Some(10), None, 0, 16), (1, false));
        assert_eq!(judge(Some(10), None, 0, 61), (2, false));
        assert_eq!(judge(Some(10), None, 0, 71), (2, true));
    }

    #[test]
    fn size_keeps_at_least_what_is_asked_for() {
        assert_eq!(judge(None, Some(201), 0, 0), (0, false));
        assert_eq!(judge(None, Some(200), 0, 0), (1, false));
        assert_eq!(judge(None, Some(150), 0, 0), (1, false));
        assert_eq!(judge(None, Some(0), 0, 0), (2, false));
    }

    #[test]
    fn the_log_start() {
        assert_eq!(judge(None, None, 9, 0), (0, false));
        assert_eq!(judge(None, None, 10, 0), (1, false));
        assert_eq!(judge(None, None, 30, 0), (2, false));
    }

    #[test]
    fn what_is_not_committed_stays() {
        let settings = TopicSettings {
            retention_bytes: Some(0),
            ..TopicSettings::default()
        };
        let judge = |keep_from| {
            let bounds = (Offset(0), Offset(keep_from));
            expired(log().into_iter(), &settings, bounds, Timestamp(0)).segments
        };
        assert_eq!([judge(9), judge(10), judge(19), judge(20)], [0, 1, 1, 2]);
    }

    #[test]
    fn a_young_segment_protects_those_behind_it() {
        let settings = TopicSettings {
            retention_ms: Some(10),
            ..TopicSettings::default()
        };
        let log = [segment(10, 100, true), segment(20, 5, true)];
        let expired = expired(
            log.into_iter(),
            &settings,
            (Offset(0), NO_BOUND),
            Timestamp(100),
        );
        assert_eq!(expired, Expired::default());
    }
}
