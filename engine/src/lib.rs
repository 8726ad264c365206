//! The Millrace broker: one shard per core, and the process around them.

mod broker;
pub mod checks;
pub mod command_line;
pub mod config;
pub mod controller;
mod coordinator;
pub mod data_dir;
pub mod device_memory;
mod file_system;
mod kafka;
mod lane;
pub mod logging;
mod mesh;
pub mod metrics;
mod observe;
mod partition;
pub mod peers;
pub mod process;
mod replicas;
mod session;
mod shard;
pub mod signals;
mod trace;
pub mod tune;
mod watchdog;

pub use broker::{Broker, BrokerConfig, RunningBroker, ShardPlacement, ShutdownError, StartError};
