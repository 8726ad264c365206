//! `millrace-bench`: see the crate's documentation.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;
use millrace_bench::options::{Compare, Load, Mode, Options, Sink};
use millrace_bench::report::{Kind, Measured, Report};
use millrace_bench::{BenchError, compare, consume, e2e, hgrm, html, produce, sink};
use millrace_engine::device_memory::DeviceMemory;

/// As the broker's own binary has it, for the embedded one.
#[global_allocator]
static ALLOCATOR: DeviceMemory = DeviceMemory;

fn main() -> ExitCode {
    let done = match Options::parse().mode {
        Mode::Produce(load) => run(Kind::Produce, &load),
        Mode::Consume(load) => run(Kind::Consume, &load),
        Mode::E2e(load) => run(Kind::E2e, &load),
        Mode::Compare(reports) => lay_side_by_side(&reports),
        Mode::Sink(sink) => serve(sink),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()
}

fn run(kind: Kind, load: &Load) -> Result<ExitCode, BenchError> {
    let measured: Measured = runtime()?.block_on(async {
        match kind {
            Kind::Produce => produce::run(load).await,
            Kind::Consume => consume::run(load).await,
            Kind::E2e => e2e::run(load).await,
        }
    })?;
    show(load, &Report::new(kind, load, &measured))
}

/// A run with errors, or one that missed its rate, is shown and fails.
fn show(load: &Load, report: &Report) -> Result<ExitCode, BenchError> {
    if let (Some(path), Some(latency)) = (&load.hgrm, report.latency()) {
        let mut file = BufWriter::new(File::create(path)?);
        hgrm::write(&mut file, latency)?;
        file.flush()?;
    }
    if let Some(path) = &load.html {
        std::fs::write(path, html::page(std::slice::from_ref(report)))?;
    }
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

fn lay_side_by_side(chosen: &Compare) -> Result<ExitCode, BenchError> {
    let reports = compare::read(&chosen.reports)?;
    if let Some(path) = &chosen.html {
        std::fs::write(path, html::page(&reports))?;
    }
    write!(std::io::stdout().lock(), "{}", compare::table(&reports))?;
    Ok(ExitCode::SUCCESS)
}

fn serve(options: Sink) -> Result<ExitCode, BenchError> {
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        writeln!(std::io::stdout(), "ready kafka={}", listener.local_addr()?)?;
        sink::serve(listener).await?;
        Ok(ExitCode::SUCCESS)
    })
}
