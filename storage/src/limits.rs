//! Limits of what the logs of one shard hold in memory and open.

/// What all logs of a shard may take together.
#[derive(Clone, Copy, Debug)]
pub struct StorageLimits {
    /// Blocks that were read from files, kept for the next reader.
    pub read_cache_bytes: usize,
    /// Pages that were written lately, kept for readers at the tail.
    pub tail_bytes: usize,
    /// Open segment files; the one that was used longest ago is closed.
    pub open_files: usize,
    /// Segment files of deleted data, kept to be written again.
    pub recycled_bytes: u64,
    /// The largest append buffer, except for a single frame that is longer. A multiple of
    /// 4 KiB.
    pub append_buffer_bytes: usize,
    /// What one log accepts beyond what it has written.
    pub pending_bytes: usize,
}

impl Default for StorageLimits {
    /// Fit for a shard of a small server: 64 MiB of cached blocks, 32 MiB of tail.
    fn default() -> Self {
        Self {
            read_cache_bytes: 64 << 20,
            tail_bytes: 32 << 20,
            open_files: 256,
            recycled_bytes: 2 << 30,
            append_buffer_bytes: 1 << 20,
            pending_bytes: 64 << 20,
        }
    }
}
