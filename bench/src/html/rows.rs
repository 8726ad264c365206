//! The rows of the tables, for the page and for the terminal.

use millrace_latency::Stage;
use millrace_latency::words::{grouped, mebibytes, micros, utc};

use crate::limits::{Item, Measure};
use crate::ramp::Ramp;
use crate::report::{Report, Summary, Throughput};

/// A row of a table: its name, and what each report has.
pub(crate) type Row = (String, Vec<String>);

/// One figure of a distribution.
type Figure = fn(&Summary) -> f64;

/// One figure of a stage of the broker.
type StageFigure = fn(&millrace_latency::Summary) -> f64;

/// What each report found.
pub(crate) fn figure_rows(reports: &[Report]) -> Vec<Row> {
    let row = |name: &str, of: &dyn Fn(&Report) -> Option<String>| {
        let values = reports.iter().map(|report| of(report).unwrap_or_default());
        (name.to_owned(), values.collect::<Vec<_>>())
    };
    let mut rows = vec![
        row("records/s", &|r| Some(grouped(r.records_per_second))),
        row("MB/s", &|r| Some(format!("{:.1}", r.megabytes_per_second))),
        row("records", &|r| Some(grouped(r.records as f64))),
        row("seconds", &|r| Some(format!("{:.2}", r.seconds))),
        row("produced MB/s", &|r| both_ways(r).map(|(of, _)| of)),
        row("consumed MB/s", &|r| both_ways(r).map(|(_, of)| of)),
        row("of the binding limit", &|r| {
            let limits = r.limits.as_ref()?;
            Some(format!("{:.2} ({})", limits.ratio, limits.binding))
        }),
        row("records lost", &|r| {
            let lost = r.lost.unanswered + r.lost.unsent + r.lost.undelivered;
            (!r.lost.is_none()).then(|| grouped(lost as f64))
        }),
        row("highest rate that keeps the bound", &|r| {
            let ramp = r.ramp.as_ref()?;
            let highest = ramp.highest.map(|rate| grouped(f64::from(rate)));
            let highest = highest.unwrap_or_else(|| "none".to_owned());
            Some(format!("{highest} records/s ({})", ramp.bound))
        }),
    ];
    for (what, summary) in [
        (
            "ack",
            (|r| r.ack_latency.as_ref()) as fn(&Report) -> Option<&Summary>,
        ),
        ("end to end", |r| r.end_to_end_latency.as_ref()),
    ] {
        let quantiles: [(&str, Figure); 7] = [
            ("min", |s| s.min_us),
            ("p50", |s| s.p50_us),
            ("p90", |s| s.p90_us),
            ("p99", |s| s.p99_us),
            ("p99.9", |s| s.p99_9_us),
            ("p99.99", |s| s.p99_99_us),
            ("max", |s| s.max_us),
        ];
        for (name, of) in quantiles {
            rows.push(row(&format!("{what}, {name}"), &|r| {
                summary(r).map(|summary| micros(of(summary)))
            }));
        }
    }
    for stage in Stage::ALL {
        let quantiles: [(&str, StageFigure); 2] = [("p50", |s| s.p50_us), ("p99", |s| s.p99_us)];
        for (name, of) in quantiles {
            rows.push(row(
                &format!("in the broker, {}, {name}", stage.name()),
                &|r| {
                    let mut stages = r.broker.as_ref()?.stages.iter();
                    let stage = stages.find(|known| known.stage == stage.name())?;
                    Some(micros(of(&stage.latency)))
                },
            ));
        }
    }
    rows.push(row("sum of the broker's medians", &|r| {
        r.broker.as_ref()?.produce_medians_us.map(micros)
    }));
    rows.extend([
        row("broker CPU-s per GB", &|r| {
            let with = with_load(r);
            r.broker_cpu_seconds_per_gb
                .map(|of| format!("{of:.2}{with}"))
        }),
        row("broker CPU-s", &|r| {
            let with = with_load(r);
            r.usage
                .broker
                .map(|of| format!("{:.2}{with}", of.cpu_seconds))
        }),
        row("broker resident MiB", &|r| {
            r.usage.broker.map(|of| mebibytes(of.resident_bytes))
        }),
        row("broker resident MiB, peak", &|r| {
            r.usage.broker.map(|of| mebibytes(of.peak_resident_bytes))
        }),
        row("load CPU-s", &|r| {
            let embedded = r.usage.broker.is_some_and(|of| of.embedded);
            (!embedded).then(|| format!("{:.2}", r.usage.load_cpu_seconds))
        }),
        row("all else CPU-s", &|r| {
            Some(format!("{:.2}", r.usage.other_cpu_seconds))
        }),
        row("stolen CPU-s", &|r| {
            Some(format!("{:.2}", r.usage.stolen_cpu_seconds))
        }),
        row("errors", &|r| {
            let errors = r
                .errors
                .iter()
                .map(|(why, count)| format!("{count} x {why}"));
            Some(errors.collect::<Vec<_>>().join("; "))
        }),
    ]);
    rows.retain(|(_, values)| values.iter().any(|value| !value.is_empty()));
    rows
}

/// What went in and what came out, in a load of both.
fn both_ways(report: &Report) -> Option<(String, String)> {
    let megabytes = |of: Throughput| format!("{:.1}", of.megabytes_per_second);
    let both = report.produced.zip(report.consumed);
    both.map(|(into, out)| (megabytes(into), megabytes(out)))
}

/// The rates that ramps tried, each in a row.
pub(super) fn ramp_rows(reports: &[Report]) -> Vec<Row> {
    let ramps: Vec<_> = reports.iter().map(|r| r.ramp.as_ref()).collect();
    let longest = ramps.iter().flatten().map(|ramp| ramp.steps.len()).max();
    let cell = |ramp: &Ramp, step: usize| {
        let step = ramp.steps.get(step)?;
        let kept = if step.kept { "kept" } else { "not kept" };
        let (rate, latency) = (grouped(f64::from(step.rate)), micros(step.latency_us));
        Some(format!("{rate} records/s: {latency}, {kept}"))
    };
    let row = |step: usize| {
        let cells = ramps.iter().map(|ramp| cell((*ramp)?, step));
        let cells = cells.map(Option::unwrap_or_default).collect();
        (format!("step {}", step + 1), cells)
    };
    (0..longest.unwrap_or(0)).map(row).collect()
}

/// Says so where the broker's figures have the load in them.
fn with_load(report: &Report) -> &'static str {
    let embedded = report.usage.broker.is_some_and(|of| of.embedded);
    if embedded { " (with load)" } else { "" }
}

/// What the machine could do at most, beside each report that measured it.
pub(super) fn limit_rows(reports: &[Report]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let limits = reports.iter().filter_map(|report| report.limits.as_ref());
    let mut names: Vec<&str> = limits
        .flat_map(|limits| limits.items.iter().map(|item| item.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let reached = reports.iter().map(|report| {
        let limits = report.limits.as_ref();
        limits.map(|of| measured_in(of.measure, of.reached))
    });
    let bound = reports.iter().map(|report| {
        let limits = report.limits.as_ref()?;
        let limit = measured_in(limits.measure, limits.limit);
        Some(format!("{limit} ({})", limits.binding))
    });
    if names.is_empty() {
        return rows;
    }
    rows.push((
        "reached".to_owned(),
        reached.map(Option::unwrap_or_default).collect(),
    ));
    rows.push((
        "binding limit".to_owned(),
        bound.map(Option::unwrap_or_default).collect(),
    ));
    for name in names {
        let cell = |report: &Report| {
            let mut items = report.limits.as_ref()?.items.iter();
            items.find(|item| item.name == name).map(limit_figures)
        };
        let cells = reports
            .iter()
            .map(|report| cell(report).unwrap_or_default());
        rows.push((name.to_owned(), cells.collect()));
    }
    rows
}

fn measured_in(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Latency => micros(value),
        Measure::Throughput => format!("{value:.1} MB/s"),
    }
}

fn limit_figures(item: &Item) -> String {
    let rate = item.megabytes_per_second;
    let rate = rate.map(|rate| measured_in(Measure::Throughput, rate));
    let latency = item.latency.map(|of| {
        let quantiles = [of.p50_us, of.p99_us, of.p99_9_us].map(micros);
        format!(
            "p50 {}, p99 {}, p99.9 {}",
            quantiles[0], quantiles[1], quantiles[2]
        )
    });
    let both: Vec<String> = rate.into_iter().chain(latency).collect();
    both.join("; ")
}

/// What load each report is of.
pub(super) fn load_rows(reports: &[Report]) -> Vec<Row> {
    let names = reports.iter().flat_map(|report| report.load.keys());
    let mut names: Vec<&String> = names.collect();
    names.sort();
    names.dedup();
    let value = |name| {
        let values = reports.iter().map(|r| r.load.get(name).cloned());
        values.map(Option::unwrap_or_default).collect()
    };
    let mut rows = vec![(
        "mode".to_owned(),
        reports
            .iter()
            .map(|report| format!("{}, {} loop", report.mode, report.loop_kind))
            .collect(),
    )];
    rows.extend(names.into_iter().map(|name| (name.clone(), value(name))));
    rows
}

/// Where each report was made.
pub(super) fn place_rows(reports: &[Report]) -> Vec<Row> {
    let row = |name: &str, of: &dyn Fn(&Report) -> String| {
        (name.to_owned(), reports.iter().map(of).collect::<Vec<_>>())
    };
    vec![
        row("CPU", &|r| r.place.cpu.clone()),
        row("cores", &|r| r.place.cores.to_string()),
        row("kernel", &|r| r.place.kernel.clone()),
        row("millrace-bench", &|r| r.place.version.clone()),
        row("commit", &|r| {
            let unknown = || "unknown".to_owned();
            r.place.commit.clone().unwrap_or_else(unknown)
        }),
        row("made at (UTC)", &|r| utc(r.made_at)),
    ]
}
