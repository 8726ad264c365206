//! `millrace-sim`: runs random histories of crashes and faults, of the log or of a whole cluster, and says which
//! seed fails.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_tools::sim::{self, Failure, cluster};

/// Runs random histories of crashes and faults against the log, or with `cluster` against a whole cluster, and
/// checks that what was promised is kept.
#[derive(Parser)]
#[command(name = "millrace-sim", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    log: Histories,
}

#[derive(Subcommand)]
enum What {
    /// Histories of a cluster: brokers that crash, pause, stop, are cut off and lose their disks, under load.
    Cluster(Histories),
}

#[derive(Args)]
struct Histories {
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
    let (command, result) = match &arguments.what {
        None => ("millrace-sim", run_log(&arguments.log)),
        Some(What::Cluster(histories)) => ("millrace-sim cluster", run_cluster(histories)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            eprintln!(
                "again: {command} --histories 1 --trace --seed {}",
                failure.seed
            );
            ExitCode::FAILURE
        }
    }
}

fn run_log(histories: &Histories) -> Result<(), Box<Failure>> {
    if histories.trace {
        return traced(histories, |seed| sim::run_history(seed, true));
    }
    with_bar(histories, |jobs, bar| {
        sim::run_many(histories.seed, histories.histories, jobs, || bar.inc(1))
    })?;
    eprintln!(
        "{} histories from seed {}: all kept",
        histories.histories, histories.seed
    );
    Ok(())
}

fn run_cluster(histories: &Histories) -> Result<(), Box<Failure>> {
    if histories.trace {
        return traced(histories, |seed| {
            cluster::run_history(seed, true).map(|(report, _)| report)
        });
    }
    let total = with_bar(histories, |jobs, bar| {
        cluster::run_many(histories.seed, histories.histories, jobs, || bar.inc(1))
    })?;
    eprintln!("from seed {}: all kept; {total}", histories.seed);
    Ok(())
}

/// Runs the histories one by one and prints each line.
fn traced(
    histories: &Histories,
    run: impl Fn(u64) -> Result<sim::Report, Box<Failure>>,
) -> Result<(), Box<Failure>> {
    for seed in histories.seed..histories.seed.saturating_add(histories.histories) {
        let report = run(seed)?;
        for line in &report.lines {
            eprintln!("  {line}");
        }
        eprintln!("seed {seed}: {:016x}", report.hash);
    }
    Ok(())
}

/// Runs the histories on all cores, with a bar.
fn with_bar<T>(
    histories: &Histories,
    run: impl FnOnce(usize, &ProgressBar) -> Result<T, Box<Failure>>,
) -> Result<T, Box<Failure>> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = histories.jobs.unwrap_or_else(cores);
    let bar = ProgressBar::new(histories.histories);
    let style = "{bar:40} {pos}/{len} histories, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = run(jobs, &bar);
    bar.finish();
    result
}
