//! Consumer groups: who is a member, who reads which partition, and how far each group has come.
//!
//! One [`Coordinator`] serves the groups of one partition of `__consumer_offsets`. It is a
//! machine without I/O: [`Coordinator::handle`] takes the time and one [`Input`], and fills a
//! caller-owned list of [`Effect`]s. The shell (`millrace-engine`) owns the log: it appends what
//! [`Effect::Append`] says, tells the machine when that is durable, and replays the log into a new
//! machine when it starts.
//!
//! **Invariant:** the durable state is a function of the records in the log, in order; a machine that
//! has replayed them stands where the one that wrote them stood, but for timers.
//! **Invariant:** a response that promises something is given only when the records behind it
//! are durable.
//!
//! How it is laid out:
//!
//! - `coordinator` routes an input to its group and carries out what the group leaves; `turn` is what one group
//!   sees meanwhile.
//! - `group` is a group with its offsets (`offsets`); `members` the group without them, of either protocol.
//! - `classic` is the classic protocol, [`consumer`] the broker-driven one.
//! - [`record`] is the format of the log.
//! - `outbox` knows who waits for which write, `deadlines` what is due when, `legal` what a request must be.
//!
//! **Limits:** members of a group (`group.max.size`, ids that were given out included), groups, bytes of names and of
//! metadata, and offsets, for only partitions that exist are committed.
//!
//! Absent here: which shard or broker a group belongs to, sockets, and the Kafka protocol's bytes.

mod classic;
pub mod consumer;
mod coordinator;
mod deadlines;
mod effect;
mod group;
mod legal;
mod members;
mod offsets;
mod outbox;
#[cfg(feature = "planted-faults")]
pub mod planted;
#[cfg(not(feature = "planted-faults"))]
mod planted;
pub mod record;
mod request;
mod response;
mod settings;
mod size;
mod topics;
mod turn;

pub use coordinator::{Coordinator, GroupOffset};
pub use effect::{Effect, Input, Record, Ticket, WriteId};
pub use record::{GroupRecord, RecordError};
pub use request::{
    AlterOffsets, Client, CommitOffset, CommittedOffset, ConsumerHeartbeat, FetchOffsets,
    Heartbeat, JoinGroup, LeaveGroup, LeavingMember, OwnedPartitions, Request, SaidOffset,
    SyncGroup,
};
pub use response::{
    ConsumerAssignment, DescribedGroup, DescribedMember, DescribedOffset, Failure, GroupState,
    GroupType, JoinedGroup, JoinedMember, ListedGroup, Response,
};
pub use settings::{AssignorName, GroupSettings, MigrationPolicy};
pub use topics::{TopicImage, TopicsImage};
