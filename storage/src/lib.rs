//! A partition's log: frames in segments, written with direct I/O, and everything that is
//! needed to find them again after a crash.
//!
//! The crate is pure except for [`disk::glommio`]: whatever touches a device goes through
//! the [`disk::Disk`] trait, so that the same log runs on io_uring and on a disk in memory
//! that crashes on purpose.

pub mod disk;
