//! The crash test: the real broker, killed with SIGKILL at random moments, while writers keep
//! a ledger of what was acknowledged, and a checker that compares the ledger with what can be
//! read.
//!
//! The broker is a child process on real files and a real socket. Writers and ledger live in
//! this process, which is not killed; the writers are ordinary clients that reconnect by
//! themselves and are never told of a kill. See [`checker`] for what must hold, [`plan`] for
//! when the broker is killed, and [`churn`] for the same with topics that come and go.
//!
//! What this cannot show: SIGKILL takes the process, not the machine, so what was written
//! and not yet durable survives. Lost and torn writes are the matter of the simulator.

pub mod checker;
pub mod churn;
mod follower;
pub mod ledger;
pub mod plan;
mod reader;
mod run;
mod writers;

pub use run::{CrashTest, Failed, Options, Totals};
