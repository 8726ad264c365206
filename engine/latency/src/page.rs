//! A document as a page: one file that needs nothing else, no script, no network.

use std::fmt::Write;

use crate::chart::{Axis, COLOURS, Chart, Line, Scale, Stroke};
use crate::words::{escape, grouped, micros, percentile};
use crate::{Counts, Document, Stage, StageCounts, Summary};

/// The style of every page: light or dark as its reader has it.
pub const STYLE: &str = include_str!("style.css");

/// Points of a line for each halving of the distance to 100 %.
const POINTS_PER_HALF: f64 = 8.0;

/// The page of these documents, which are of different windows of the same broker: the stages of each by
/// percentile, and their figures.
#[must_use]
pub fn page(documents: &[Document]) -> String {
    let topic = documents
        .first()
        .and_then(|document| document.topic.as_ref());
    let title = match topic {
        Some(topic) => format!("Stages of a batch, topic {topic}"),
        None => "Stages of a batch".to_owned(),
    };
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
        title = escape(&title)
    );
    for document in documents {
        let _ = writeln!(out, "<h2>{}</h2>", escape(&document.time_in_words()));
        out.push_str(&chart(&document.stages).render());
        table(&mut out, &document.stages);
        if let Some(sum) = document.sum_of_produce_medians_us() {
            let sum = micros(sum);
            let _ = writeln!(
                out,
                "<p class=\"soft\">sum of the medians from receive to ack: {sum}</p>"
            );
        }
        for shard in &document.shards {
            let _ = writeln!(out, "<h2>Shard {}</h2>", shard.shard);
            table(&mut out, &shard.stages);
        }
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// The distribution of each stage, with 1 / (1 - quantile) along the bottom.
#[must_use]
pub fn chart(stages: &[StageCounts]) -> Chart {
    let shown = stages.iter().filter(|stage| !stage.latency.is_empty());
    let lines = shown.map(|stage| {
        let (colour, stroke) = look(&stage.stage);
        Line {
            name: stage.stage.clone(),
            colour,
            stroke,
            points: by_odds(&stage.latency),
        }
    });
    Chart {
        x: Axis {
            title: "percentile",
            scale: Scale::Log,
            label: percentile,
        },
        y: Axis {
            title: "latency (logarithmic)",
            scale: Scale::Log,
            label: micros,
        },
        lines: lines.collect(),
    }
}

/// The colour and the stroke of a stage, the same in every chart.
#[must_use]
pub fn look(stage: &str) -> (usize, Stroke) {
    let colour = Stage::named(stage).map_or(0, |stage| stage as usize);
    match colour {
        ..COLOURS => (colour, Stroke::Solid),
        _ => (colour, Stroke::Dashed),
    }
}

/// Latencies in microseconds at steps that get finer towards 100 %, the last where one in all the count is.
fn by_odds(counts: &Counts) -> Vec<(f64, f64)> {
    let most = (counts.count() as f64).max(2.0);
    let steps = (POINTS_PER_HALF * most.log2()).ceil() as u32;
    let odds = (0..steps).map(|step| (f64::from(step) / POINTS_PER_HALF).exp2().min(most));
    let us = |odds: f64| counts.quantile(1.0 - 1.0 / odds) as f64 / 1e3;
    let mut points: Vec<_> = odds.map(|odds| (odds, us(odds))).collect();
    points.push((most, counts.longest() as f64 / 1e3));
    points
}

fn table(out: &mut String, stages: &[StageCounts]) {
    out.push_str("<div class=\"table\"><table>\n<thead><tr><th></th>");
    for heading in [
        "batches", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean",
    ] {
        let _ = write!(out, "<th>{heading}</th>");
    }
    out.push_str("</tr></thead>\n");
    for stage in stages.iter().filter(|stage| !stage.latency.is_empty()) {
        let Summary {
            count,
            mean_us,
            p50_us,
            p90_us,
            p99_us,
            p99_9_us,
            p99_99_us,
            max_us,
        } = stage.latency.summary();
        let count = grouped(count as f64);
        let _ = write!(out, "<tr><td>{}</td><td>{count}</td>", escape(&stage.stage));
        for us in [p50_us, p90_us, p99_us, p99_9_us, p99_99_us, max_us, mean_us] {
            let _ = write!(out, "<td>{}</td>", micros(us));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Latency;

    #[test]
    fn a_page_needs_nothing_and_shows_what_there_was() {
        let mut latency = Latency::fine();
        (1..1_000).for_each(|n| latency.record(n * 1_000, 1));
        let stages = vec![
            StageCounts::new(Stage::Device, Counts::from(&latency)),
            StageCounts::new(Stage::Replicate, Counts::default()),
        ];
        let document = Document {
            window: "start".to_owned(),
            topic: Some("a<b".to_owned()),
            stages,
            ..Document::default()
        };
        let page = page(&[document]);
        for sign in ["http:", "https:", "//", "src=", "href=", "url(", "<script"] {
            assert!(!page.contains(sign), "the page contains {sign}");
        }
        assert!(page.contains("topic a&lt;b"), "{page}");
        assert!(page.contains("<td>device</td><td>999</td>"), "{page}");
        assert!(!page.contains("replicate") && !page.contains("NaN"));
        let lines = chart(&[StageCounts::new(Stage::Ack, Counts::from(&latency))]).lines;
        assert!(lines[0].points.is_sorted(), "{:?}", lines[0].points);
    }
}
