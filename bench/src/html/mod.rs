//! The page of one run or of several over one another: one file that needs nothing else, no
//! script, no network. Charts are SVG made here from the reports.

mod rows;
mod stages;

use std::fmt::Write;

use millrace_latency::chart::{Axis, Chart, Line, Scale, Stroke};
use millrace_latency::page::STYLE;
use millrace_latency::words::{escape, grouped, micros, percentile, short};

use crate::report::{Kind, Point, Report, Step, Summary};
pub(crate) use rows::{Row, figure_rows};
use rows::{limit_rows, load_rows, place_rows, ramp_rows};

/// The page of these reports, whose labels tell them apart.
#[must_use]
pub fn page(reports: &[Report]) -> String {
    let mut out = String::new();
    let title = match reports {
        [one] => one.label.clone(),
        _ => "Runs side by side".to_owned(),
    };
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
        title = escape(&title)
    );
    if let [one] = reports {
        out.push_str(&figures(one));
    }
    for (heading, chart) in [
        ("Latency by percentile", percentiles(reports)),
        ("Throughput over time", throughput(reports)),
        ("Latency over time", latency(reports)),
        (
            "Stages of the broker by percentile",
            stages::percentiles(reports),
        ),
    ] {
        let chart = chart.render();
        if !chart.is_empty() {
            let _ = writeln!(out, "<h2>{heading}</h2>\n{chart}");
        }
    }
    out.push_str(&stages::medians(reports));
    section(&mut out, "Figures", reports, &figure_rows(reports));
    let limits = limit_rows(reports);
    if !limits.is_empty() {
        section(&mut out, "Limits of the machine", reports, &limits);
    }
    let ramp = ramp_rows(reports);
    if !ramp.is_empty() {
        section(&mut out, "Ramp", reports, &ramp);
    }
    section(&mut out, "Load", reports, &load_rows(reports));
    section(
        &mut out,
        "Machine and program",
        reports,
        &place_rows(reports),
    );
    out.push_str("</body>\n</html>\n");
    out
}

fn section(out: &mut String, heading: &str, reports: &[Report], rows: &[Row]) {
    let _ = write!(out, "<h2>{heading}</h2>\n<div class=\"table\"><table>\n");
    if reports.len() > 1 {
        out.push_str("<thead><tr><th></th>");
        for report in reports {
            let _ = write!(out, "<th>{}</th>", escape(&report.label));
        }
        out.push_str("</tr></thead>\n");
    }
    for (name, values) in rows {
        let _ = write!(out, "<tr><td>{}</td>", escape(name));
        for value in values {
            let _ = write!(out, "<td>{}</td>", escape(value));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// The figures that one looks for first.
fn figures(report: &Report) -> String {
    let mut shown = vec![
        (
            format!("{:.1} MB/s", report.megabytes_per_second),
            "value bytes over wall time",
        ),
        (grouped(report.records_per_second), "records/s"),
    ];
    if let Some(latency) = report.latency() {
        let what = match report.mode {
            Kind::E2e => ["end to end, median", "end to end, p99", "end to end, p99.9"],
            _ => [
                "acknowledged, median",
                "acknowledged, p99",
                "acknowledged, p99.9",
            ],
        };
        let values = [latency.p50_us, latency.p99_us, latency.p99_9_us];
        shown.extend(values.map(micros).into_iter().zip(what));
    }
    if let Some(limits) = &report.limits {
        let what = match limits.measure {
            crate::limits::Measure::Latency => "times the least that the machine allows",
            crate::limits::Measure::Throughput => "of the most that the machine allows",
        };
        shown.push((format!("{:.2}", limits.ratio), what));
    }
    if let (Some(cpu), Some(broker)) = (report.broker_cpu_seconds_per_gb, report.usage.broker) {
        let whose = match broker.embedded {
            true => "CPU-s per GB, broker and load",
            false => "broker CPU-s per GB",
        };
        shown.push((format!("{cpu:.2}"), whose));
    }
    let mut out = String::from("<div class=\"figures\">");
    for (value, what) in shown {
        let _ = write!(
            out,
            "<div class=\"figure\"><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(what)
        );
    }
    out.push_str("</div>\n");
    out
}

const LATENCY: Axis = Axis {
    title: "latency (logarithmic)",
    scale: Scale::Log,
    label: micros,
};

const TIME: Axis = Axis {
    title: "seconds since the measurement began",
    scale: Scale::Linear,
    label: short,
};

fn percentiles(reports: &[Report]) -> Chart {
    let mut lines = Vec::new();
    for (colour, report) in reports.iter().enumerate() {
        let both = [&report.end_to_end_latency, &report.ack_latency];
        let kinds = [("end to end", Stroke::Solid), ("ack", Stroke::Dashed)];
        for (latency, (what, stroke)) in both.into_iter().zip(kinds) {
            let Some(latency) = latency else { continue };
            let alone = report.end_to_end_latency.is_none();
            let name = match (reports.len(), alone) {
                (1, _) => what.to_owned(),
                (_, true) => report.label.clone(),
                (_, false) => format!("{}: {what}", report.label),
            };
            lines.push(Line {
                name,
                colour,
                stroke: if alone { Stroke::Solid } else { stroke },
                points: distribution(latency),
            });
        }
    }
    Chart {
        x: Axis {
            title: "percentile",
            scale: Scale::Log,
            label: percentile,
        },
        y: LATENCY,
        lines,
    }
}

/// The distribution with 1 / (1 - quantile) along the bottom. What is as long as the longest
/// has no place there; it stands where one in all the count would.
fn distribution(latency: &Summary) -> Vec<(f64, f64)> {
    by_odds(latency.count, &latency.distribution)
}

fn by_odds(count: u64, steps: &[Step]) -> Vec<(f64, f64)> {
    let most = (count as f64).max(2.0);
    let steps = steps.iter();
    let mut points: Vec<_> = steps
        .map(|step| ((1.0 / (1.0 - step.quantile)).min(most), step.us))
        .collect();
    points.dedup_by(|later, earlier| later.0 == earlier.0 && later.1 == earlier.1);
    points
}

fn throughput(reports: &[Report]) -> Chart {
    let lines = reports.iter().enumerate().map(|(colour, report)| Line {
        name: match reports.len() {
            1 => "value bytes".to_owned(),
            _ => report.label.clone(),
        },
        colour,
        stroke: Stroke::Solid,
        points: over_time(report, |point| {
            Some(point.bytes as f64 / 1e6 / point.seconds)
        }),
    });
    Chart {
        x: TIME,
        y: Axis {
            title: "MB/s",
            scale: Scale::Linear,
            label: short,
        },
        lines: lines.collect(),
    }
}

/// One figure of a stretch of time.
type Figure = fn(&Point) -> Option<f64>;

fn latency(reports: &[Report]) -> Chart {
    let kinds: [(&str, Stroke, Figure); 3] = [
        ("p50", Stroke::Dashed, |point| point.p50_us),
        ("p99", Stroke::Solid, |point| point.p99_us),
        ("max", Stroke::Dotted, |point| point.max_us),
    ];
    let mut lines = Vec::new();
    for (number, report) in reports.iter().enumerate() {
        for (kind, (what, stroke, of)) in kinds.into_iter().enumerate() {
            let (name, colour) = match reports.len() {
                1 => (what.to_owned(), kind),
                _ => (format!("{}: {what}", report.label), number),
            };
            let points = over_time(report, of);
            if !points.is_empty() {
                lines.push(Line {
                    name,
                    colour,
                    stroke: if reports.len() == 1 {
                        Stroke::Solid
                    } else {
                        stroke
                    },
                    points,
                });
            }
        }
    }
    Chart {
        x: TIME,
        y: LATENCY,
        lines,
    }
}

/// A value in the middle of each stretch of time.
fn over_time(report: &Report, of: impl Fn(&Point) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = report.series().iter();
    points
        .filter_map(|point| Some((point.at + point.seconds / 2.0, of(point)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{load, measured};

    fn report(label: &str) -> Report {
        let load = load(&["produce", "--label", label]);
        Report::new(Kind::Produce, &load, &measured())
    }

    /// Nothing may be fetched: no address, no reference to a file, no script.
    fn refers_to_nothing(page: &str) {
        for sign in [
            "http:", "https:", "//", "src=", "href=", "url(", "@import", "<script",
        ] {
            assert!(!page.contains(sign), "the page contains {sign}");
        }
    }

    #[test]
    fn the_page_of_a_run_has_its_charts_and_figures() {
        let page = page(&[report("a <run>")]);
        refers_to_nothing(&page);
        assert!(page.contains("<title>a &lt;run&gt;</title>"));
        assert_eq!(page.matches("<div class=\"chart\">").count(), 5);
        for part in [
            "where the median goes",
            "on the way and in the client",
            "device: 75",
            "p99.99",
            "3.47 ms",
            "1.0 MB/s",
            "200.00",
            "20.0",
            "99.9%",
            "kernel",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn limits_stand_beside_the_results() {
        let mut with = report("held against limits");
        with.limits = Some(crate::limits::tests::reached());
        let page = page(&[with, report("not")]);
        refers_to_nothing(&page);
        for part in [
            "Limits of the machine",
            "0.25 (disk.append.256KiB)",
            "4.0 MB/s (disk.append.256KiB)",
            "4.0 MB/s; p50 80 \u{b5}s",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
    }

    #[test]
    fn several_runs_share_the_charts() {
        let page = page(&[report("first"), report("second")]);
        refers_to_nothing(&page);
        assert_eq!(page.matches("<div class=\"chart\">").count(), 4);
        assert!(page.contains("class=\"mark s1\""));
        assert!(page.contains("<th>second</th>"));
    }

    #[test]
    fn a_run_without_latencies_has_no_chart_of_them() {
        let mut measured = measured();
        measured.tally = crate::measure::Tally::default();
        let report = Report::new(Kind::Consume, &load(&["consume"]), &measured);
        let page = page(&[report]);
        assert!(!page.contains("Latency by percentile"));
        assert!(!page.contains("NaN"));
    }
}
