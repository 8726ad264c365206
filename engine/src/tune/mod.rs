//! What this host lacks to run a broker fast. Looks, says what each thing is for and the command that sets it,
//! and changes nothing.
//!
//! Where [`crate::checks`] asks whether a broker can serve here at all, this asks what it loses. Everything is
//! read from files of the kernel under one root, so that tests have hosts of their own making. What cannot be
//! read on this host (a virtual machine has no governor) is unknown, and no lack.
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `host` | how files of the kernel are read |
//! | `processor` | cores, governor, clock, interrupts |
//! | `memory` | locked memory, huge pages, swap, dirty pages |
//! | `network` | socket buffers, offload, busy polling |
//! | `storage` | file system, device, io_uring, open files |

mod host;
mod memory;
mod network;
mod processor;
mod storage;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::Config;
pub use host::Host;

/// What was found about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// It costs speed.
    Lacks,
    /// It depends on what else the host does: for a person to weigh.
    Consider,
    /// This host does not tell.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A short name, the same for ever.
    pub name: &'static str,
    /// What was found, judged.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What it is for.
    pub purpose: &'static str,
    /// The command that sets it, unless it is good or unknown.
    pub fix: Option<String>,
}

impl Check {
    /// As it should be.
    fn good(name: &'static str, found: impl Into<String>, purpose: &'static str) -> Self {
        Self {
            name,
            state: State::Good,
            found: found.into(),
            purpose,
            fix: None,
        }
    }

    /// This host does not tell, and why.
    fn unknown(name: &'static str, found: impl Into<String>, purpose: &'static str) -> Self {
        Self {
            state: State::Unknown,
            ..Self::good(name, found, purpose)
        }
    }

    /// It costs speed; this mends it.
    fn lacking(self, fix: impl Into<String>) -> Self {
        Self {
            state: State::Lacks,
            fix: Some(fix.into()),
            ..self
        }
    }

    /// It may cost speed; this changes it.
    fn worth_a_thought(self, fix: impl Into<String>) -> Self {
        Self {
            state: State::Consider,
            fix: Some(fix.into()),
            ..self
        }
    }

    /// As it is if `is_good`, else lacking.
    fn unless(self, is_good: bool, fix: impl Into<String>) -> Self {
        if is_good { self } else { self.lacking(fix) }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Whether nothing lacks.
    pub fit: bool,
    /// Each thing, in the order of the module's table.
    pub checks: Vec<Check>,
}

impl Findings {
    /// Looks at a host, for a broker with this configuration.
    #[must_use]
    pub fn of(host: &Host, config: &Config) -> Self {
        let mut checks = Vec::new();
        processor::look(host, config, &mut checks);
        memory::look(host, config, &mut checks);
        network::look(host, &mut checks);
        storage::look(host, config, &mut checks);
        let fit = checks.iter().all(|check| check.state != State::Lacks);
        Self { fit, checks }
    }

    /// As text for people: what lacks first.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (state, word) in [
            (State::Lacks, "LACKS"),
            (State::Consider, "consider"),
            (State::Unknown, "unknown"),
            (State::Good, "good"),
        ] {
            for check in self.checks.iter().filter(|check| check.state == state) {
                let Check {
                    name,
                    found,
                    purpose,
                    fix,
                    ..
                } = check;
                let _ = writeln!(out, "{word:<9}{name:<22}{found}");
                if let Some(fix) = fix {
                    let _ = writeln!(out, "{:9}for: {purpose}\n{:9}set: {fix}", "", "");
                }
            }
        }
        let lacking = self
            .checks
            .iter()
            .filter(|check| check.state == State::Lacks);
        let _ = match lacking.count() {
            0 => writeln!(out, "nothing lacks"),
            count => writeln!(
                out,
                "{count} of {} lack; nothing was changed",
                self.checks.len()
            ),
        };
        out
    }

    /// As JSON.
    ///
    /// # Panics
    /// Never: the fields are text.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("the findings have names as keys") + "\n"
    }
}
