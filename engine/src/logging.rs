//! Structured logs on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, Effective, LogFormat};

/// Starts logging as the configuration says: `log.level`, or where nobody sets it `RUST_LOG`.
///
/// # Errors
/// The level is neither a level nor directives.
///
/// # Panics
/// If logging was started before in this process.
pub fn start(effective: &Effective) -> Result<(), ConfigError> {
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|_| effective.is_default("log.level"));
    let directives = asked.as_ref().unwrap_or(&effective.config.log_level);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        ConfigError::Conflict(format!("log.level (or RUST_LOG) = `{directives}`: {error}"))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match effective.config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
