//! `millrace-bench`: see the crate's documentation.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use millrace_bench::limits::{Around, Limits};
use millrace_bench::options::{Compare, LimitsOptions, Load, Mode, Options, Sink};
use millrace_bench::report::{Kind, Report};
use millrace_bench::sink::Delays;
use millrace_bench::{BenchError, compare, consume, e2e, hgrm, html, mixed, produce, ramp, sink};
use millrace_engine::device_memory::DeviceMemory;

/// As the broker's own binary has it, for the embedded one.
#[global_allocator]
static ALLOCATOR: DeviceMemory = DeviceMemory;

/// The exit code of options that do not fit together, as of those that cannot be parsed.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let done = match Options::parse().mode {
        Mode::Produce(load) => run(Kind::Produce, &load),
        Mode::Consume(load) => run(Kind::Consume, &load),
        Mode::E2e(load) => run(Kind::E2e, &load),
        Mode::Mixed(load) => run(Kind::Mixed, &load),
        Mode::Limits(options) => limits(&options),
        Mode::Compare(reports) => lay_side_by_side(&reports),
        Mode::Sink(sink) => serve(sink),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            match error {
                BenchError::Options(_) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// A runtime of so many threads, or as many as there are cores.
fn runtime(threads: Option<NonZeroUsize>) -> std::io::Result<tokio::runtime::Runtime> {
    let threads = threads.map_or_else(std::thread::available_parallelism, Ok);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.map_or(1, usize::from))
        .enable_all()
        .build()
}

fn run(kind: Kind, load: &Load) -> Result<ExitCode, BenchError> {
    load.check(kind).map_err(BenchError::Options)?;
    let report = runtime(load.client_threads)?.block_on(within_limits(kind, load))?;
    show(load, &report)
}

/// The run, and where asked for the limits of the machine around it.
async fn within_limits(kind: Kind, load: &Load) -> Result<Report, BenchError> {
    let limits = Around::begin(kind, load).await?;
    let mut report = measure(kind, load).await?;
    if let Some(limits) = limits {
        report.limits = limits.end(&report).await?;
    }
    Ok(report)
}

async fn measure(kind: Kind, load: &Load) -> Result<Report, BenchError> {
    if let Some(bound) = load.ramp {
        return ramp::run(kind, load, bound).await;
    }
    let measured = match kind {
        Kind::Produce => produce::run(load).await,
        Kind::Consume => consume::run(load).await,
        Kind::E2e => e2e::run(load).await,
        Kind::Mixed => mixed::run(load).await,
    };
    Ok(Report::new(kind, load, &measured?))
}

/// A run with errors, or one that missed its rate, is shown and fails. The report is printed
/// before any file is written, so that a file that cannot be takes nothing of it.
fn show(load: &Load, report: &Report) -> Result<ExitCode, BenchError> {
    let mut out = std::io::stdout().lock();
    if load.json {
        serde_json::to_writer_pretty(&mut out, report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    let mut written = true;
    if let (Some(path), Some(latency)) = (&load.hgrm, report.latency()) {
        written &= wrote(path, |file| hgrm::write(file, latency));
    }
    if let Some(path) = &load.html {
        let page = html::page(std::slice::from_ref(report));
        written &= wrote(path, |file| file.write_all(page.as_bytes()));
    }
    Ok(match written && report.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether the file could be written; says so where it could not.
fn wrote(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> bool {
    let written = File::create(path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    });
    if let Err(error) = &written {
        eprintln!("millrace-bench: cannot write {}: {error}", path.display());
    }
    written.is_ok()
}

fn lay_side_by_side(chosen: &Compare) -> Result<ExitCode, BenchError> {
    let reports = compare::read(&chosen.reports)?;
    write!(std::io::stdout().lock(), "{}", compare::table(&reports))?;
    let page = html::page(&reports);
    let written = chosen
        .html
        .as_ref()
        .is_none_or(|path| wrote(path, |file| file.write_all(page.as_bytes())));
    Ok(match written {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn limits(options: &LimitsOptions) -> Result<ExitCode, BenchError> {
    let directory = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let limits = runtime(None)?.block_on(Limits::measure(&directory, options.duration))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &limits).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{limits}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(options: Sink) -> Result<ExitCode, BenchError> {
    runtime(None)?.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        writeln!(std::io::stdout(), "ready kafka={}", listener.local_addr()?)?;
        let delays = Delays {
            each: options.delay,
            stall: options.stall,
        };
        sink::serve(listener, delays).await?;
        Ok(ExitCode::SUCCESS)
    })
}
