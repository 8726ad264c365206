//! What classic consumers put into their joins (`ConsumerProtocolSubscription`): opaque to a coordinator,
//! but for the topics, which decide which offsets expire.

use crate::record::{Reader, RecordError};

/// The topics that a classic consumer subscribes to. What follows them in the blob does not matter here.
pub(crate) fn subscribed_topics(blob: &[u8]) -> Result<Vec<String>, RecordError> {
    let (version, mut reader) = Reader::versioned(blob)?;
    match version {
        0.. => reader.array_of(Reader::string),
        _ => Err(RecordError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_any_version_are_read() {
        let first = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        assert_eq!(subscribed_topics(first).unwrap(), ["t"]);
        let later = b"\0\x09\0\0\0\x01\0\x01tand more";
        assert_eq!(subscribed_topics(later).unwrap(), ["t"]);
        assert_eq!(subscribed_topics(&first[..7]), Err(RecordError::Malformed));
        assert_eq!(subscribed_topics(b"\xff\xff"), Err(RecordError::Malformed));
    }
}
