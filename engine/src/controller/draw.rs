//! Identities drawn at random.

use std::io;

use millrace_model::{ClusterId, IncarnationId, TopicId};

/// A new topic id.
///
/// # Errors
/// The system gives no random bits.
pub fn random_topic_id() -> io::Result<TopicId> {
    random_bits().map(TopicId)
}

/// A new cluster id.
///
/// # Errors
/// The system gives no random bits.
pub fn random_cluster_id() -> io::Result<ClusterId> {
    random_bits().map(ClusterId)
}

/// The identity of this run of the process. Each call draws another.
///
/// # Errors
/// The system gives no random bits.
pub fn random_incarnation() -> io::Result<IncarnationId> {
    random_bits().map(IncarnationId)
}

/// 128 random bits of the system.
fn random_bits() -> io::Result<[u8; 16]> {
    let mut bits = [0; 16];
    // SAFETY: the pointer and the length are those of `bits`, which is writable.
    let filled = unsafe { libc::getrandom(bits.as_mut_ptr().cast(), bits.len(), 0) };
    match usize::try_from(filled) {
        Ok(16) => Ok(bits),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_drawn_differs() {
        assert_ne!(random_topic_id().unwrap(), random_topic_id().unwrap());
    }
}
