//! `millrace-fuzz`: short fuzz runs of every decoder. See [`millrace_tools::fuzz`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millrace_tools::fuzz::{Budget, Finding, Target, targets};
use millrace_tools::hex::{from_hex, to_hex};

/// Inputs per target when neither --runs nor --seconds is given.
const DEFAULT_RUNS: u64 = 100_000;

/// Feed the decoders of Millrace with inputs that are nearly valid.
#[derive(Debug, Parser)]
#[command(name = "millrace-fuzz", version)]
struct Fuzz {
    /// Targets; all when none is named.
    targets: Vec<String>,
    /// Seed of the inputs; the same seed gives the same inputs.
    #[arg(long)]
    seed: Option<u64>,
    /// Inputs per target.
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// Seconds for all targets together.
    #[arg(long)]
    seconds: Option<u64>,
    /// Feed this one input, in hexadecimal, to one target.
    #[arg(long, value_name = "HEX", value_parser = parse_input)]
    input: Option<Input>,
    /// Write the valid inputs of the targets into this directory and run nothing.
    #[arg(long, value_name = "DIRECTORY")]
    write_corpus: Option<PathBuf>,
    /// List the targets.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Debug)]
struct Input(Vec<u8>);

/// Characters of a panic's message that are printed: an assertion that compares blocks would
/// fill the screen, and the input is printed anyway.
const SHOWN_MESSAGE_LEN: usize = 600;

fn parse_input(text: &str) -> Result<Input, String> {
    from_hex(text)
        .map(Input)
        .ok_or_else(|| "an input is an even number of hexadecimal digits".into())
}

fn main() -> ExitCode {
    let fuzz = Fuzz::parse();
    let chosen = match choose(&fuzz.targets) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: there is no target '{unknown}'; --list shows those that exist");
            return ExitCode::from(2);
        }
    };
    if fuzz.list {
        chosen
            .iter()
            .for_each(|target| eprintln!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    if let Some(Input(input)) = &fuzz.input {
        return feed_one(&chosen, input);
    }
    if let Some(directory) = &fuzz.write_corpus {
        return write_corpus(&chosen, directory);
    }
    shorten_panics();
    let seed = fuzz.seed.unwrap_or_else(|| fastrand::u64(..));
    let budget = match (fuzz.runs, fuzz.seconds) {
        (_, Some(seconds)) => {
            Budget::Time(Duration::from_secs(seconds) / u32::try_from(chosen.len()).unwrap_or(1))
        }
        (runs, None) => Budget::Runs(runs.unwrap_or(DEFAULT_RUNS)),
    };
    let mut failed = false;
    for target in &chosen {
        match target.fuzz(seed, budget) {
            Ok(runs) => eprintln!("{:<32} {runs:>10} runs, seed {seed}", target.name),
            Err(finding) => {
                report(&finding, seed);
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn choose(names: &[String]) -> Result<Vec<Target>, String> {
    let all = targets();
    let unknown = names
        .iter()
        .find(|name| all.iter().all(|target| target.name != **name));
    if let Some(unknown) = unknown {
        return Err(unknown.clone());
    }
    let wanted = |target: &Target| names.is_empty() || names.iter().any(|n| n == target.name);
    Ok(all.into_iter().filter(wanted).collect())
}

fn shorten_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.to_string();
        let end = message
            .char_indices()
            .nth(SHOWN_MESSAGE_LEN)
            .map_or(message.len(), |(at, _)| at);
        eprintln!("{}", &message[..end]);
    }));
}

fn write_corpus(chosen: &[Target], directory: &Path) -> ExitCode {
    for target in chosen {
        for (number, input) in target.corpus.iter().enumerate() {
            let name = format!("{}-{number}", target.name.replace(':', "_"));
            if let Err(error) = std::fs::write(directory.join(&name), input) {
                eprintln!("error: cannot write {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn feed_one(chosen: &[Target], input: &[u8]) -> ExitCode {
    let [target] = chosen else {
        eprintln!("error: --input needs exactly one target");
        return ExitCode::from(2);
    };
    match target.run_one(input, 0) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn report(finding: &Finding, seed: u64) {
    let Finding { target, input, run } = finding;
    eprintln!("{target} panicked at run {run} of seed {seed}; repeat it with");
    eprintln!("  millrace-fuzz {target} --input {}", to_hex(input));
}
