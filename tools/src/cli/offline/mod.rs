//! `millctl log`: looks into the log files of a stopped broker, and changes nothing.

mod directories;
mod dump;
mod files;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;
use millrace_storage::disk::DiskError;
use millrace_storage::read_only::{self, Found, Summary};

use self::directories::{LogDirectory, Logs};
use self::files::ReadOnlyFiles;
use super::exit::{Exit, Failure};
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print everything that is in the files: segments, writes, frames, footers.
    Dump {
        /// A data directory, or the directory of one partition in it.
        dir: PathBuf,
        /// Print the records of each frame, too.
        #[arg(long)]
        records: bool,
    },
    /// Check every byte of the files; exit code 6 when there is damage.
    Verify {
        /// A data directory, or the directory of one partition in it.
        dir: PathBuf,
    },
}

pub(super) fn run(command: &LogCommand, output: &Output) -> Result<(), Failure> {
    match command {
        LogCommand::Dump { dir, records } => dump::run(&Logs::find(dir)?, *records, output),
        LogCommand::Verify { dir } => verify::run(&Logs::find(dir)?, output),
    }
}

/// Looks at one log, telling `visit` the file's name and what is found.
fn look(log: &LogDirectory, visit: impl FnMut(&str, Found)) -> Result<Summary, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Other, error.to_string()))?;
    runtime
        .block_on(read_only::look(&ReadOnlyFiles, &log.path, log.id, visit))
        .map_err(|error| disk_failure(&error))
}

fn disk_failure(error: &DiskError) -> Failure {
    let exit = if error.is_not_found() {
        Exit::NotFound
    } else {
        Exit::Other
    };
    Failure::new(exit, format!("cannot {error}"))
}
