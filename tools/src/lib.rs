//! The tools around the broker: the command line `millctl` ([`cli`]), the crash test of the
//! real broker ([`crash`], the binary `millrace-crash`), clusters on this machine ([`cluster`]), the simulator ([`sim`]) and the fuzz
//! runs ([`fuzz`], the binary `millrace-fuzz`).
//!
//! Everything that talks to a broker does so through `millrace-client`, as any application
//! would; nothing here reaches into the broker's process. `millctl log` reads the files of a
//! stopped broker through `millrace-storage`.

pub mod broker;
pub mod cli;
pub mod cluster;
pub mod crash;
pub mod fuzz;
pub mod hex;
pub mod sim;
