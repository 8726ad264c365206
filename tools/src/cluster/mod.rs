//! The certificates of a cluster's brokers ([`certificates`]), and clusters on this machine: what is in
//! their directory ([`local`]), and their processes ([`process`]).

pub mod certificates;
pub mod local;
pub mod process;
