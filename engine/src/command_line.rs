//! The command line of `millrace`: commands, and a flag for every key of the configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{ConfigError, Effective, KEYS, Layers};

/// Flags that the short help shows; the long one shows all.
const PROMINENT: [&str; 5] = ["data.dir", "quic", "kafka", "http", "cores"];

const EXIT_CODES: &str = "Exit codes: 0 stopped cleanly, 1 failed while serving, \
    2 wrong command line or configuration, 3 the machine lacks something (see `millrace check`), \
    130 or 143 stopped at once by a second signal.";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Serve until a signal.
    Serve,
    /// Print the effective configuration.
    Config,
    /// Check the machine.
    Check,
    /// Say what the machine lacks to be fast.
    Tune {
        /// As JSON.
        json: bool,
    },
    /// Print the version.
    Version,
}

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub task: Task,
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Invocation {
    /// Parses the arguments, the program's name first.
    ///
    /// # Errors
    /// clap's, which also stands for `--help`; it knows how to print itself and its exit
    /// code.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(arguments)?;
        let (task, matches) = match matches.subcommand() {
            Some(("config", inner)) => (Task::Config, inner),
            Some(("check", inner)) => (Task::Check, inner),
            Some(("tune", inner)) => {
                let json = inner.get_flag("json");
                (Task::Tune { json }, inner)
            }
            Some(("version", inner)) => (Task::Version, inner),
            Some((_, inner)) => (Task::Serve, inner),
            None => (Task::Serve, &matches),
        };
        Ok(Self {
            task,
            file: matches.get_one("config-file").cloned(),
            flags: flags(matches),
        })
    }

    /// The configuration: file, environment, flags, in this order.
    ///
    /// # Errors
    /// An unknown key or an illegal value in any of them.
    pub fn configure(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Effective, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let named = environment
            .iter()
            .find(|(name, _)| name == "MILLRACE_CONFIG");
        let named = named.map(|(_, path)| PathBuf::from(path));
        let mut layers = Layers::default();
        if let Some(path) = self.file.as_ref().or(named.as_ref()) {
            layers = layers.file(path)?;
        }
        layers = layers.environment(environment);
        for (key, text) in &self.flags {
            layers = layers.flag(key, text)?;
        }
        layers.build()
    }
}

fn flags(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = |name: &'static str| {
        matches
            .get_one::<String>(name)
            .map(|text| (name, text.clone()))
    };
    KEYS.iter().filter_map(|key| given(key.name)).collect()
}

fn command() -> Command {
    let settings = KEYS.iter().map(|key| {
        Arg::new(key.name)
            .long(key.flag())
            .value_name("VALUE")
            .help(format!("{} [default: {}]", key.help.trim(), key.default))
            .allow_hyphen_values(true)
            .hide_short_help(!PROMINENT.contains(&key.name))
            .help_heading("Settings")
            .global(true)
    });
    let file = Arg::new("config-file")
        .long("config")
        .value_name("FILE")
        .help("TOML file with any of the settings; also MILLRACE_CONFIG")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true);
    Command::new("millrace")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A streaming broker: durable, ordered, one shard per core")
        .after_help(EXIT_CODES)
        .arg(file)
        .args(settings)
        .subcommand(Command::new("serve").about("Serve until SIGTERM or SIGINT (the default)"))
        .subcommand(Command::new("config").about("Print the effective configuration as TOML"))
        .subcommand(Command::new("check").about("Check that this machine can serve"))
        .subcommand(tune())
        .subcommand(Command::new("version").about("Print the version"))
}

fn tune() -> Command {
    let check = Arg::new("check")
        .long("check")
        .help("Look, and change nothing: the one thing that this does")
        .action(ArgAction::SetTrue)
        .required(true);
    let json = Arg::new("json")
        .long("json")
        .help("Print the findings as JSON")
        .action(ArgAction::SetTrue);
    Command::new("tune")
        .about("Say what this machine lacks to be fast, and the commands that set it")
        .after_help("Exit codes: 0 nothing lacks, 1 something does.")
        .arg(check)
        .arg(json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        Invocation::parse(
            std::iter::once("millrace")
                .chain(arguments.iter().copied())
                .map(Into::into),
        )
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn nothing_means_serve_and_flags_stand_on_either_side_of_the_command() {
        assert_eq!(parse(&[]).unwrap().task, Task::Serve);
        assert_eq!(parse(&["serve"]).unwrap().task, Task::Serve);
        for arguments in [["--cores", "2", "config"], ["config", "--cores", "2"]] {
            let invocation = parse(&arguments).unwrap();
            assert_eq!(invocation.task, Task::Config);
            assert_eq!(invocation.flags, [("cores", "2".to_owned())]);
        }
    }

    #[test]
    fn tuning_looks_only() {
        assert!(
            parse(&["tune"]).is_err(),
            "what changes things would be said so"
        );
        let task = |arguments: &[&str]| parse(arguments).unwrap().task;
        assert_eq!(task(&["tune", "--check"]), Task::Tune { json: false });
        assert_eq!(
            task(&["tune", "--check", "--json"]),
            Task::Tune { json: true }
        );
    }

    #[test]
    fn minus_one_is_a_value() {
        let invocation = parse(&["--log-retention-ms", "-1"]).unwrap();
        assert_eq!(invocation.flags, [("log.retention.ms", "-1".to_owned())]);
    }

    #[test]
    fn an_unknown_flag_names_the_closest() {
        let error = parse(&["--log-retention-mss", "1"]).unwrap_err();
        assert!(error.to_string().contains("--log-retention-ms"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_file_named_by_a_flag_wins_over_the_one_in_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("millrace.toml");
        std::fs::write(&path, "num.partitions = 5\nhttp = \"none\"\n").unwrap();
        let invocation = parse(&["--config", path.to_str().unwrap(), "--http", "[::1]:1"]).unwrap();
        let environment = [
            ("MILLRACE_CONFIG".to_owned(), "/does/not/exist".to_owned()),
            ("MILLRACE_NUM_PARTITIONS".to_owned(), "6".to_owned()),
        ];
        let config = invocation.configure(environment).unwrap().config;
        assert_eq!(config.num_partitions.get(), 6);
        assert_eq!(config.http.0, Some("[::1]:1".parse().unwrap()));
        assert_eq!(
            parse(&[])
                .unwrap()
                .configure([])
                .unwrap()
                .config
                .num_partitions
                .get(),
            1
        );
    }
}
