//! `millrace-bench`: see the crate's documentation.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use millrace_bench::options::{Load, Mode, Options};
use millrace_bench::report::Report;
use millrace_bench::{BenchError, consume, e2e, produce};

fn main() -> ExitCode {
    let options = Options::parse();
    let (Mode::Produce(load) | Mode::Consume(load) | Mode::E2e(load)) = &options.mode;
    match run(&options.mode).and_then(|report| show(load, &report)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mode: &Mode) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match mode {
            Mode::Produce(load) => produce::run(load).await,
            Mode::Consume(load) => consume::run(load).await,
            Mode::E2e(load) => e2e::run(load).await,
        }
    })
}

/// A run with errors, or one that missed its rate, is shown and fails.
fn show(load: &Load, report: &Report) -> Result<ExitCode, BenchError> {
    let mut out = std::io::stdout().lock();
    if load.json {
        serde_json::to_writer_pretty(&mut out, report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    let sound = report.errors.is_empty() && !report.fell_short();
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
