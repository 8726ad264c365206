//! Where the time goes inside the broker: the stages' distributions, and how they make up the client's median.

use std::fmt::Write;

use millrace_latency::chart::{Axis, COLOURS, Chart, Line, Scale};
use millrace_latency::page::look;
use millrace_latency::words::{escape, micros, percentile};

use super::{LATENCY, by_odds};
use crate::report::Report;

/// The picture's size, in its own units; the page scales it.
const WIDTH: f64 = 900.0;
/// Height of a bar, with the space above it.
const BAR: f64 = 26.0;
const GAP: f64 = 22.0;

/// The distribution of each stage. Of one run only: with more the lines could not be told apart.
pub(super) fn percentiles(reports: &[Report]) -> Chart {
    let broker = match reports {
        [one] => one.broker.as_ref(),
        _ => None,
    };
    let stages = broker.iter().flat_map(|broker| &broker.stages);
    let lines = stages.map(|stage| {
        let (colour, stroke) = look(&stage.stage);
        Line {
            name: stage.stage.clone(),
            colour,
            stroke,
            points: by_odds(stage.latency.count, &stage.distribution),
        }
    });
    Chart {
        x: Axis {
            title: "percentile",
            scale: Scale::Log,
            label: percentile,
        },
        y: LATENCY,
        lines: lines.collect(),
    }
}

/// A part of a bar.
struct Part {
    name: String,
    us: f64,
    class: String,
}

/// A bar for each run: the medians of the stages that a producer waits for, side by side, and what is left of the
/// client's median. Nothing when no run has both.
pub(super) fn medians(reports: &[Report]) -> String {
    let bars: Vec<(&Report, Vec<Part>)> = reports
        .iter()
        .filter_map(|report| Some((report, parts(report)?)))
        .collect();
    let sum = |parts: &[Part]| parts.iter().map(|part| part.us).sum::<f64>();
    let longest = bars.iter().map(|(_, parts)| sum(parts)).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let height = bars.len() as f64 * (BAR + GAP);
    let mut out = String::from("<h2>Where the median goes</h2>\n<div class=\"chart\">");
    legend(&bars, &mut out);
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"where the median goes\">"
    );
    for (number, (report, parts)) in bars.iter().enumerate() {
        let top = number as f64 * (BAR + GAP) + GAP;
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{:.1}\">{}: {}</text>",
            top - 6.0,
            escape(&report.label),
            escape(&micros(sum(parts)))
        );
        let mut left = 0.0;
        for part in parts {
            let width = part.us / longest * WIDTH;
            let _ = write!(
                out,
                "<rect class=\"{}\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\">\
                 <title>{}: {}</title></rect>",
                part.class,
                escape(&part.name),
                escape(&micros(part.us))
            );
            left += width;
        }
    }
    out.push_str("</svg></div>\n");
    out
}

fn legend(bars: &[(&Report, Vec<Part>)], out: &mut String) {
    out.push_str("<div class=\"legend\">");
    let mut shown: Vec<&str> = Vec::new();
    for part in bars.iter().flat_map(|(_, parts)| parts) {
        if shown.contains(&part.name.as_str()) {
            continue;
        }
        shown.push(&part.name);
        let _ = write!(
            out,
            "<span><svg viewBox=\"0 0 28 10\"><rect class=\"{}\" width=\"28\" height=\"10\"/></svg>{}</span>",
            part.class,
            escape(&part.name)
        );
    }
    out.push_str("</div>");
}

fn parts(report: &Report) -> Option<Vec<Part>> {
    let (broker, client) = (report.broker.as_ref()?, report.ack_latency.as_ref()?);
    let outside = broker.outside_us(client.p50_us)?;
    let produce = millrace_latency::Stage::PRODUCE;
    let mut parts = Vec::new();
    for (colour, stage) in produce.iter().enumerate() {
        let mut known = broker.stages.iter();
        if let Some(known) = known.find(|known| known.stage == stage.name()) {
            parts.push(Part {
                name: known.stage.clone(),
                us: known.latency.p50_us,
                class: format!("f{}", colour % COLOURS),
            });
        }
    }
    parts.push(Part {
        name: "on the way and in the client".to_owned(),
        us: outside.max(0.0),
        class: "rest".to_owned(),
    });
    Some(parts)
}
