//! `millrace-crash`: kills the real broker over and over and checks that it keeps its
//! promises. See [`millrace_tools::crash`].

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_tools::broker;
use millrace_tools::crash::churn::ChurnTest;
use millrace_tools::crash::{CrashTest, Failed, Options, Totals};

/// Cycles between two lines of progress when standard error is no terminal.
const CYCLES_PER_LINE: u64 = 50;

/// Kill the real broker at random moments and check that nothing acknowledged is lost,
/// doubled or out of order.
#[derive(Debug, Parser)]
#[command(name = "millrace-crash", version)]
struct Crash {
    /// How many times to start, kill and check.
    #[arg(long, default_value_t = 1_000)]
    cycles: u64,
    /// Repeats a plan of kills.
    #[arg(long)]
    seed: Option<u64>,
    /// What goes on while the broker is killed.
    #[arg(long, value_enum, default_value_t = During::Produce)]
    during: During,
    /// How many clients write at the same time.
    #[arg(long, default_value_t = 3)]
    writers: usize,
    /// The broker's binary; the one beside this program unless given.
    #[arg(long, env = broker::BIN_VARIABLE)]
    bin: Option<PathBuf>,
    /// A directory for the data, on the file system to test; a new one in the system's
    /// temporary directory unless given. Removed after success.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum During {
    /// Producing and consuming.
    Produce,
    /// Creating and deleting topics.
    CreateDelete,
}

fn main() -> ExitCode {
    let crash = Crash::parse();
    match run(&crash) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the broker kept its promises.
fn run(crash: &Crash) -> io::Result<bool> {
    let seed = crash.seed.unwrap_or_else(|| fastrand::u64(..));
    let dir = match &crash.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("millrace-crash-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir)?;
    let bin = crash.bin.clone().map_or_else(broker::find_binary, Ok)?;
    eprintln!(
        "seed {seed}, {} cycles of {} in {}",
        crash.cycles,
        bin.display(),
        dir.display()
    );
    let options = Options {
        bin,
        dir: dir.clone(),
        cycles: crash.cycles,
        seed,
        writers: crash.writers,
    };
    let started = Instant::now();
    let outcome = drive(crash.during, options)?;
    match outcome {
        Ok(totals) => {
            let per_minute = totals.cycles as f64 * 60.0 / started.elapsed().as_secs_f64();
            eprintln!("passed: {totals}; {per_minute:.0} cycles a minute");
            std::fs::remove_dir_all(&dir)?;
            Ok(true)
        }
        Err(failed) => {
            eprintln!("FAILED in {failed}");
            eprintln!(
                "the data and the broker's log are kept in {}",
                dir.display()
            );
            eprintln!("repeat the plan with --seed {seed}");
            Ok(false)
        }
    }
}

fn drive(during: During, options: Options) -> io::Result<Result<Totals, Failed>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let bar = progress_bar(options.cycles);
    let progress = |totals: &Totals| {
        bar.set_position(totals.cycles);
        bar.set_message(format!(
            "{} kills, {} checked",
            totals.kills, totals.records_checked
        ));
        if bar.is_hidden() && totals.cycles.is_multiple_of(CYCLES_PER_LINE) {
            eprintln!("{totals}");
        }
    };
    let outcome = runtime.block_on(async {
        match during {
            During::Produce => CrashTest::new(options).run(progress).await,
            During::CreateDelete => ChurnTest::new(options).run(progress).await,
        }
    });
    bar.finish_and_clear();
    runtime.shutdown_background();
    Ok(outcome)
}

fn progress_bar(cycles: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cycles, {per_sec}, {msg}");
    ProgressBar::new(cycles).with_style(style.expect("the template is a constant"))
}
