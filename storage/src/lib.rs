//! A partition's log: frames in segments, written with direct I/O, and everything that is
//! needed to find them again after a crash.
//!
//! The crate is pure except for [`disk::glommio`]: whatever touches a device goes through
//! the [`disk::Disk`] trait, so that the same log runs on io_uring and on a disk in memory
//! that crashes on purpose.

mod appender;
mod cache;
mod decoder;
pub mod disk;
mod error;
mod files;
mod footer;
mod frames;
pub mod fuzz;
mod index;
mod layout;
mod limits;
mod log;
mod lru;
pub mod micro;
#[cfg(feature = "planted-faults")]
pub mod planted;
#[cfg(not(feature = "planted-faults"))]
mod planted;
mod position;
mod producers;
pub mod read_only;
mod recovery;
mod replica_run;
mod retention;
mod scan;
mod segment;
mod space;
mod start_file;
mod storage;
mod tail;
mod watch;

pub use decoder::DecodeError;
pub use error::{AppendError, ChangeError, Latch, OpenError, ReadError};
pub use index::IndexEntry;
pub use limits::StorageLimits;
pub use log::{Appended, FrameRun, Log, LogEnds, LogStats, Maintained};
pub use millrace_model::EpochStart;
pub use position::Position;
pub use producers::{ActiveProducer, ProducerBatch, SequenceError};
pub use replica_run::{ReplicaError, ReplicaRun};
pub use scan::{FrameSummary, Item, Stop};
pub use storage::{RecoveryReport, Spawner, Storage, StorageStats};
