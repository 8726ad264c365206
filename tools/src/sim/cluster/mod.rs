//! The simulator of clusters: brokers, their quorum, replicas, groups and disks on one thread in virtual time, each
//! history following from its seed.
//!
//! A history begins with three brokers, sometimes five. While producers, consumers and members of a group work, a
//! *nemesis* makes brokers crash, pause and stop, cuts and disturbs the network, slows, fills, fails and rots
//! disks, sets clocks, and moves replicas and leaders about. Then it makes all well, and within a bound of virtual
//! time the cluster must be whole.
//!
//! Of the product it runs: the controller with its task and journal (quorum, cluster, leases), `Replica` over the
//! real log on the disk in memory, and the groups' coordinator. The shells of the last two, which on a shard belong
//! to its executor, are the simulator's own (`partition`, `coordinator`).
//!
//! The checkers ([`checker`]) share no code with the product and know plain numbers: which bytes were sent,
//! acknowledged, read and committed where and when. They hold that
//! - a batch that was acknowledged with `acks=all` stands for ever where it was said to stand, in every replica
//!   that may lead, and no batch of an idempotent producer stands twice;
//! - there is one batch at an offset for ever: whoever takes it for committed has the same, and whoever has it
//!   durably in an epoch has the same as all others in that epoch;
//! - a log that comes back after a crash has all that was durable in it;
//! - who is in sync, or eligible to lead after that, has everything that is committed, durably;
//! - the high watermark of a leader never falls, and no consumer is shown an end below what an earlier leader had
//!   committed;
//! - one broker is made the leader in an epoch, and it is that one who acts; a version of a partition is the same
//!   to all brokers; no producer id is given out twice;
//! - an offset that a group committed stays until a later commit, and no two members read the same partition;
//! - no leader whose log is sound gives up, no log is taken for damaged without rot, and nothing panics.
//!
//! Not here: QUIC and the bytes of its messages, shards and their mesh, and clients of the product.

mod broker;
mod checker;
mod clients;
mod clock;
mod coordinator;
mod disk;
mod faults;
mod healing;
mod history;
mod mirror;
mod nemesis;
mod network;
mod node;
mod partition;
mod runner;
mod settings;
mod slot;
mod streams;
mod world;

pub use faults::{Fault, Faults};
pub use history::Summary;
pub use runner::{Total, run_history, run_many};
