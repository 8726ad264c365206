//! The broker's configuration: one table of keys, four places a value can come from.
//!
//! A key has one name, Kafka's where Kafka has one, and three spellings of it: in the TOML
//! file as it is (`log.retention.ms = 60000`), in the environment in capitals
//! (`MILLRACE_LOG_RETENTION_MS`), as a flag with dashes (`--log-retention-ms`). A flag wins
//! over the environment, the environment over the file, the file over the default. All four
//! are text that goes through the same parser, so a value means the same everywhere.
//!
//! An unknown key in the file or as a flag is an error that names the closest key. An unknown
//! `MILLRACE_` variable is only reported: the environment is shared with the client tools,
//! and Kubernetes adds variables of its own (`MILLRACE_PORT`, ...) to every pod beside a
//! service of this name.
//!
//! Nothing here touches a directory or a socket; that a value can be used is the business of
//! [`crate::checks`].

mod cluster;
mod groups;
mod keys;
mod layers;
mod value;

pub use cluster::{ClusterConfig, Rack, ReplicaSelector, Voter, Voters};
pub use groups::Assignors;
pub(crate) use keys::topic_default_of;
pub use keys::{Config, Entry, KEYS, Key};
pub use layers::{ConfigError, Effective, Layers, Source};
pub use value::{
    Advertised, ByteSize, Cores, DiskMode, Listener, LogFormat, OptionalPath, Period, Unlimited,
};
