//! What a script learns from `millctl`'s exit code, and how an error reads.

use std::fmt;
use std::io;

/// The exit codes of `millctl`. The numbers are a promise to scripts: see [`Exit::TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// An error that no other code describes.
    Other = 1,
    /// The command line was wrong.
    Usage = 2,
    /// No such topic, partition, directory, offset or group.
    NotFound = 3,
    /// The broker could not be reached, did not answer in time, or is not the trusted one.
    Connection = 4,
    /// The broker refused the request.
    Refused = 5,
    /// `log verify` found damage.
    Damage = 6,
    /// Interrupted with Ctrl-C.
    Interrupted = 130,
    /// The reader of standard output went away.
    Pipe = 141,
}

impl Exit {
    /// The table as `--help` shows it.
    pub const TABLE: &'static str = "\
Exit codes:
  0    everything was done
  1    an error that no other code describes
  2    the command line was wrong
  3    no such topic, partition, offset, group or directory
  4    the broker could not be reached, did not answer in time, or is not the trusted one
  5    the broker refused the request
  6    log verify found damage
  130  interrupted with Ctrl-C
  141  the reader of standard output went away";
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed: the exit code, and a sentence that says what to do next.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What happened, in a sentence or two; empty when nothing need be said.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code and sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// A mistake on the command line that only the command itself can notice.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that was asked for and does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// Ctrl-C, which needs no words.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "")
    }

    /// Standard output could not be written. A reader that went away needs no words.
    #[must_use]
    pub fn from_stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Pipe, "");
        }
        Self::new(
            Exit::Other,
            format!("standard output cannot be written: {error}"),
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        let every = [
            Exit::Done,
            Exit::Other,
            Exit::Usage,
            Exit::NotFound,
            Exit::Connection,
            Exit::Refused,
            Exit::Damage,
            Exit::Interrupted,
            Exit::Pipe,
        ];
        let in_table: Vec<u8> = Exit::TABLE
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(in_table, every.map(|exit| exit as u8));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_in_words() {
        let failure = Failure::from_stdout(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Pipe, ""));
        let full = Failure::from_stdout(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit, Exit::Other);
        assert!(!full.message.is_empty());
    }
}
