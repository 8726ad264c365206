//! The wall clock, as the log's timestamps count.

use std::time::{SystemTime, UNIX_EPOCH};

use millrace_model::Timestamp;

/// Now. A clock before 1970 reads as 1970.
pub(crate) fn timestamp() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
