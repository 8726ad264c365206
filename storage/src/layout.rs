//! Names of files and directories.

use millrace_model::{LogId, Offset, PartitionId, TopicId};
use std::path::{Path, PathBuf};

/// Directory of all logs, below the data directory.
pub(crate) const LOGS_DIR: &str = "logs";

/// See [`crate::start_file`].
pub(crate) const START_FILE: &str = "log-start";

/// The next version of it, until it is renamed.
pub(crate) const NEW_START_FILE: &str = "log-start.new";

/// Digits of the base offset in a segment's name.
const OFFSET_DIGITS: usize = 20;

/// `<base offset, 20 digits>.log`.
pub(crate) fn segment_name(base: Offset) -> String {
    format!("{:0OFFSET_DIGITS$}.log", base.0)
}

/// The base offset in a segment's name.
pub(crate) fn segment_base(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    let plain = digits.len() == OFFSET_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The directory of a log below the data directory `root`.
pub(crate) fn log_dir(root: &Path, id: LogId) -> PathBuf {
    root.join(LOGS_DIR).join(id.to_string())
}

/// The log in a directory's name, `<topic id>-<partition>`.
pub(crate) fn log_id(name: &str) -> Option<LogId> {
    let (topic, partition) = name.rsplit_once('-')?;
    let topic: TopicId = topic.parse().ok()?;
    let partition: PartitionId = partition.parse().ok()?;
    let id = LogId { topic, partition };
    (id.to_string() == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names() {
        assert_eq!(segment_name(Offset(42)), "00000000000000000042.log");
        assert_eq!(segment_base("00000000000000000042.log"), Some(Offset(42)));
        assert_eq!(
            segment_base(&segment_name(Offset(u64::MAX))),
            Some(Offset(u64::MAX))
        );
        for name in [
            "42.log",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "log-start",
        ] {
            assert_eq!(segment_base(name), None, "{name}");
        }
    }

    #[test]
    fn directory_names() {
        let id = LogId {
            topic: TopicId([0xab; 16]),
            partition: PartitionId(7),
        };
        assert_eq!(log_id(&id.to_string()), Some(id));
        for name in ["", "x-1", "abababababababababababababababab-07", "abab-1"] {
            assert_eq!(log_id(name), None, "{name}");
        }
    }
}
