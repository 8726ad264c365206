//! Client of Millrace: producer, consumer and administration over QUIC, on tokio or inside
//! a glommio executor (features `tokio`, the default, and `glommio`).
//!
//! ```no_run
//! use millrace_client::{
//!     Client, ConnectOptions, ConsumerOptions, OffsetSpec, ProducerOptions, ProducerRecord, Trust,
//! };
//!
//! # async fn tour() -> Result<(), millrace_client::ClientError> {
//! let trust = Trust::FirstUse("known_brokers".into());
//! let broker = "127.0.0.1:9644".parse().expect("an address");
//! let client = Client::connect(ConnectOptions::new(broker, trust)).await?;
//! client.create_topic("greetings", Some(4), &[("retention.ms", "60000")]).await?;
//!
//! let producer = client.producer(ProducerOptions::new("greetings")).await?;
//! let delivery = producer.send(ProducerRecord::new("hello").with_key("world")).await?;
//! let stored = delivery.await?;
//! println!("partition {} offset {:?}", stored.partition, stored.offset);
//! producer.close().await;
//!
//! let mut consumer =
//!     client.consumer(ConsumerOptions::new("greetings").from(OffsetSpec::Earliest)).await?;
//! while let Some(record) = consumer.next_before_end().await? {
//!     println!("{}: {:?}", record.offset, record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What always holds:
//! - A record's delivery completes once, with its place in the log or with the reason why
//!   it has none. Records of one partition are stored in the order of `send`.
//! - With idempotence, the default, nothing is stored twice, however often a connection
//!   breaks: what is not acknowledged is sent again under the same sequence numbers.
//! - A member of a group reads a partition alone, and what it has committed is where the next one
//!   begins: each record is seen at least once.
//! - Memory is bounded: `send` awaits room, and a consumer that stands still reads nothing.
//! - Whatever a broker sends, the client answers with an error, never with a panic.
//!
//! Absent on purpose: transactions, and more than one broker.

#[cfg(not(any(feature = "tokio", feature = "glommio")))]
compile_error!("millrace-client needs a runtime: enable the feature `tokio` or `glommio`");

mod client;
mod cluster;
mod consumer;
mod control;
mod directory;
mod error;
mod group;
mod known_brokers;
mod link;
mod links;
mod options;
mod producer;
mod runtime;
mod socket;
mod streams;
mod tls;
mod transport;
mod watch;

pub use client::{Client, FoundOffset};
pub use consumer::{Consumer, ConsumerOptions, ConsumerRecord, OffsetReset, RecordHeader};
pub use error::{CertificateChange, ClientError};
pub use group::{
    CommitMode, GroupConsumer, GroupOptions, GroupPartition, GroupRecord, PartitionLag,
    RebalanceListener,
};
pub use link::bare_connection;
pub use options::{ConnectOptions, RuntimeKind, Trust};
pub use producer::{
    Delivery, Partitioner, Producer, ProducerOptions, ProducerRecord, RecordMetadata, murmur2,
};
pub use streams::{AckReceiver, FrameReceiver, FrameSender, ReceivedFrame};
pub use tls::certificate_fingerprint;

pub use millrace_model::batch::Compression;
pub use millrace_model::{ErrorCode, LogId, Offset, PartitionId, Timestamp, TopicId};
pub use millrace_wire::{
    Ack, Acks, CommitOffset, CommittedOffset, ConsumeOpened, DescribedGroup, DescribedMember,
    GroupOffset, ListedGroup, Metadata, OffsetSpec, PartitionState, ProduceOpened, Request,
    Response, Topic, TopicConfig, TopicPartitions,
};
