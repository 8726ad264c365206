//! How much of everything.

use millrace_model::BrokerId;

/// Bytes of one command: a topic of 10,000 partitions with five replicas each, twice over.
pub const MAX_COMMAND_LEN: usize = 1 << 20;

/// Bytes of entries or of a snapshot in one message, or one longer entry. Also what a slow
/// peer makes the leader send again at a time.
pub(super) const MESSAGE_PAYLOAD: usize = 256 << 10;

/// Bytes of one message, encoded.
pub const MAX_MESSAGE_LEN: usize = MAX_COMMAND_LEN + MESSAGE_PAYLOAD;

/// Entries of one message.
pub(super) const MAX_MESSAGE_ENTRIES: usize = 256;

/// Entries sent to a peer and not yet answered.
pub(super) const MAX_IN_FLIGHT: u64 = 1024;

/// Entries that the leader has and that are not committed. Proposals beyond are refused: the
/// majority is slow or away.
pub const MAX_UNCOMMITTED: u64 = 4096;

/// Members, learners among them. Every broker of a large cluster may learn.
pub const MAX_MEMBERS: usize = 1_000;

/// Bytes of a snapshot: the largest cluster's state (100,000 partitions) is some 30 MiB.
pub const MAX_SNAPSHOT_LEN: u64 = 256 << 20;

/// How far behind a learner may be that is to become a voter: what it fetches in one message.
pub(crate) const MAX_PROMOTION_LAG: u64 = 128;

/// How far a message may be ahead of this node's term. Elections do not reach it in the life
/// of the sun; a corrupt term above would leave no later one.
pub(super) const MAX_TERM_STEP: u64 = 1 << 32;

/// A term above is refused from whoever says it, so that counting on from it cannot overflow.
pub(super) const MAX_TERM: u64 = 1 << 62;

/// Entries of a log, in all its life: a million a second for half a million years.
pub(super) const MAX_INDEX: u64 = 1 << 62;

/// No broker: the vote of who has not voted, on the wire.
pub(super) const NOBODY: BrokerId = BrokerId(u32::MAX);

const _: () = assert!(MAX_PROMOTION_LAG <= MAX_MESSAGE_ENTRIES as u64);
const _: () = assert!(MESSAGE_PAYLOAD <= MAX_COMMAND_LEN);
