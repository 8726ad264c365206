//! One replica of a partition: how its log is kept the same as the others', and what of it
//! is committed. Pure state machines; a shell carries out what they say.
//!
//! A [`Replica`] is a broker's part in a partition. The metadata assigns it a role, each in a
//! leader epoch: a [`Leader`] appends, streams frames to followers and decides what is
//! committed; a [`Follower`] makes its log the leader's. They are different types, so that
//! neither can be asked what only the other knows. The replica routes inputs to the role and
//! changes it, and keeps what outlives a role: what is known of the log ([`LogView`]).
//!
//! # How a record becomes committed
//!
//! 1. The leader appends it in its epoch. Once it is durable there it is streamed to every
//!    follower that has subscribed.
//! 2. A follower stores the frames byte for byte and says how far its log is *durable*. That
//!    position is its acknowledgement.
//! 3. The leader's high watermark is the lowest position of the *maximal* in-sync set: the
//!    committed set and, while a change of it is under way, everyone proposed as well. Below
//!    it, records are committed: shown to consumers, acknowledged to `acks=all`.
//! 4. Followers are told the high watermark with the frames, or without when none come.
//!
//! # How logs come to agree
//!
//! A follower subscribes with the end of its durable log, and the epoch of the record before
//! that. Where the leader's log has no such end in that epoch, it answers with the largest epoch
//! not above it and that epoch's end (KIP-101, KIP-279). The follower truncates to the lower of
//! that and its own end of the epoch, and subscribes again. Nothing is stored before the leader
//! has found that the follower's log is a beginning of its own. No one truncates to a high
//! watermark. A follower whose last epoch is older than all that the leader's log still has starts
//! anew at the leader's log start: what it holds below was deleted by the leader, and may never
//! have been the leader's.
//!
//! # Invariants
//!
//! - A follower counts from its first subscription in this leader epoch that the leader found
//!   to agree, with the end that it stated as durable, and in the latest of its sessions.
//! - The leader's high watermark never falls, and stands still while fewer than
//!   `min.insync.replicas` are in the committed set.
//! - The in-sync set changes when the metadata says so, never before. One change is under way
//!   at a time. A replica to join counts at once; one to leave counts until it has left.
//! - A replica joins when it has reached the high watermark *and* the start of this leader's
//!   epoch: below that start, an earlier leader may have committed what this one does not know
//!   to be committed yet.
//! - A follower truncates only for the leader of its own epoch, in its present session.
//! - A leader epoch begins, and a subscription states an end, when all that the log has
//!   accepted is durable. So neither can turn out to lie above the log's end.
//! - Followers are streamed what the leader has durably, not what it merely has. A write that
//!   fails and is cut from the leader's log (a full disk) leaves no follower with other records
//!   at the same offsets in the same epoch. Should a log lose what it counted all the same,
//!   its leader resigns.
//!
//! # What a message may suffer
//!
//! Each follower's broker has one ordered stream to a leader's shard, and the stream tells when it is
//! lost. Beyond that nothing is relied on: a follower numbers its subscriptions
//! ([`SessionId`]), and what comes from an earlier one, twice, late or with a gap before it is
//! recognised and dropped.
//!
//! # Absent here
//!
//! The frames (the shell appends those that came with an input when told so), streams and
//! their flow control, who is elected, and the in-sync set's storage: those are the metadata's.
//! Unclean elections need nothing here but the epoch.
//!
//! # Sources
//!
//! Kafka's replication as KIP-101, 279, 320, 841, 903 and 966 state it, and the TLA+ models that
//! accompany them.

mod effect;
mod follower;
mod in_sync;
mod leader;
mod log_view;
mod member;
#[cfg(feature = "planted-faults")]
pub mod planted;
#[cfg(not(feature = "planted-faults"))]
mod planted;
mod pull;
mod replica;
mod settings;

pub use effect::Effect;
pub use follower::{Follower, FollowerInput};
pub use in_sync::{AlterAnswer, InSyncState, Proposal, ProposalId};
pub use leader::{Acks, Admission, Leader, LeaderInput, Leadership};
pub use log_view::{LogEnds, LogView};
pub use member::Standing;
pub use pull::{
    FollowerMessage, FramesHeader, LeaderMessage, Position, PullClass, SessionId, Watermark,
};
pub use replica::{Assignment, Idle, Input, Replica, Role};
pub use settings::ReplicaSettings;
