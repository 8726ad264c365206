//! `millrace-sim`: runs random crash histories of the log, and says which seed fails.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_tools::sim;

/// Runs random histories of crashes and faults against the log, and checks that it keeps
/// what it promised.
#[derive(Parser)]
#[command(name = "millrace-sim", version)]
struct Arguments {
    /// How many histories to run.
    #[arg(long, default_value_t = 10_000)]
    histories: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print all that happens. To be used with `--histories 1`.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.trace {
        traced(&arguments)
    } else {
        many(&arguments)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            eprintln!(
                "again: millrace-sim --histories 1 --trace --seed {}",
                failure.seed
            );
            ExitCode::FAILURE
        }
    }
}

/// Runs the histories one by one and prints each line.
fn traced(arguments: &Arguments) -> Result<(), Box<sim::Failure>> {
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.histories) {
        let report = sim::run_history(seed, true)?;
        for line in &report.lines {
            eprintln!("  {line}");
        }
        eprintln!("seed {seed}: {:016x}", report.hash);
    }
    Ok(())
}

/// Runs the histories on all cores, with a bar.
fn many(arguments: &Arguments) -> Result<(), Box<sim::Failure>> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or_else(cores);
    let bar = ProgressBar::new(arguments.histories);
    let style = "{bar:40} {pos}/{len} histories, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = sim::run_many(arguments.seed, arguments.histories, jobs, || bar.inc(1));
    bar.finish();
    if result.is_ok() {
        eprintln!(
            "{} histories from seed {}: all kept",
            arguments.histories, arguments.seed
        );
    }
    result
}
