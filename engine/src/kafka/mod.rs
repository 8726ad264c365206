//! The Kafka protocol: connections over TCP, and the APIs that they ask for.
//!
//! | module | what it does |
//! | --- | --- |
//! | `listener` | accepts connections on every shard, within limits; closes idle ones |
//! | `connection` | frames in, responses out in the order of the requests, many in flight |
//! | `dispatch` | which handler answers which request |
//! | `appends` | batches on their way into logs, in the order in which they came |
//! | `admin` | topics, partitions, settings, the cluster |
//! | `groups` | the APIs of consumer groups |
//! | `produce`, `fetch`, ... | one API each |
//!
//! A connection stays on the shard that accepted it. What a request asks of partitions of other
//! shards is asked there ([`Shard::on`](crate::shard::Shard::on)) and gathered.
//!
//! **Invariant:** the first poll of a request's handler happens in the order of the requests of its
//! connection, so what a handler does before it first awaits keeps that order. Produce does all of
//! its appends then.
//!
//! Absent on purpose: TLS, SASL, ACLs, transactions.

mod admin;
mod appends;
mod cluster;
mod connection;
mod context;
mod dispatch;
mod fetch;
mod groups;
mod join;
mod listener;
mod names;
mod offsets;
mod owners;
mod produce;
mod producers;
mod state;

pub(crate) use listener::serve;
pub(crate) use state::KafkaShard;
