//! What the brokers of a cluster call things.

use millrace_model::TopicId;

/// The listener of the native protocol, among a broker's endpoints.
pub const QUIC_LISTENER: &str = "QUIC";

/// The listener of the Kafka protocol.
pub const KAFKA_LISTENER: &str = "KAFKA";

/// A new topic id: 128 random bits of the system.
///
/// # Errors
/// The system gives none.
pub fn random_topic_id() -> std::io::Result<TopicId> {
    random_bytes().map(TopicId)
}

/// Random bytes of the system.
///
/// # Errors
/// The system gives none.
pub fn random_bytes() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the pointer and the length are those of `bytes`, which is writable.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(filled) {
        Ok(16) => Ok(bytes),
        Ok(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(std::io::Error::last_os_error()),
    }
}
