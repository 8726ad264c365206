//! Latencies by stage, of all shards or one, of all topics or one, since the start or of the last minutes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_latency::page::page;
use millrace_latency::{Document, ShardDocument, StageCounts, VERSION};
use millrace_model::TopicId;
use millrace_net::Stint;

use super::{Query, Shown, Unseen, html, json, shards, text};
use crate::metrics::{Counter, Gauge, MAX_WATCHED_TOPICS, Stage, TooManyWatched, WATCH_TIME};
use crate::shard::Shard;

pub(super) const KEYS: &[&str] = &["format", "window", "shard", "stage", "topic", "per"];

/// How latencies are written.
#[derive(Clone, Copy)]
enum Format {
    /// A table.
    Text,
    /// [`Document`].
    Json,
    /// HdrHistogram's, of one stage.
    Hgrm,
    /// A page with charts.
    Html,
}

/// A stretch of time up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Start,
    Minutes(u32),
}

const WINDOWS: &[(&str, Window)] = &[
    ("start", Window::Start),
    ("1m", Window::Minutes(1)),
    ("5m", Window::Minutes(5)),
    ("10m", Window::Minutes(10)),
];

/// What each shard is asked for.
#[derive(Clone)]
struct Wanted {
    windows: Vec<Window>,
    stages: Vec<Stage>,
    topic: Option<TopicId>,
}

/// What a shard has: one entry for each window, and when it began.
struct Part {
    uptime: Duration,
    windows: Vec<(Duration, Vec<StageCounts>)>,
    document: ShardDocument,
}

pub(super) async fn answer(shard: &Rc<Shard>, query: &Query<'_>) -> Result<Shown, Unseen> {
    let formats = [
        ("text", Format::Text),
        ("json", Format::Json),
        ("hgrm", Format::Hgrm),
        ("html", Format::Html),
    ];
    let format = query.one_of("format", &formats)?;
    let per_shard = query.one_of("per", &[("all", false), ("shard", true)])?;
    let asked = shards(shard, query)?;
    let wanted = Wanted {
        windows: windows(query, format)?,
        stages: stages(query)?,
        topic: topic(shard, query)?,
    };
    let mut parts = Vec::new();
    for owner in asked {
        let wanted = wanted.clone();
        let part = shard
            .on(owner, move |owner| gather(owner, wanted))
            .await??;
        parts.push(part);
    }
    let topic = query.value("topic").map(str::to_owned);
    let documents = documents(&parts, &wanted, topic, per_shard);
    let first = documents.first().expect("there is a window");
    match format {
        Format::Json => Ok(json(first)),
        Format::Text => {
            let tables: Vec<String> = documents.iter().map(Document::to_string).collect();
            Ok(text(tables.join("\n")))
        }
        Format::Html => Ok(html(page(&documents))),
        Format::Hgrm => match wanted.stages.as_slice() {
            [stage] => Ok(text(
                first.stage(*stage).cloned().unwrap_or_default().hgrm(),
            )),
            _ => Err(Unseen::Query("hgrm is of one stage; add stage=".to_owned())),
        },
    }
}

/// People see the last minute beside all.
fn windows(query: &Query<'_>, format: Format) -> Result<Vec<Window>, Unseen> {
    let window = query.one_of("window", WINDOWS)?;
    if query.value("topic").is_some() && window != Window::Start {
        let message = "a topic is recorded since it was first asked for, without windows";
        return Err(Unseen::Query(message.to_owned()));
    }
    match (format, query.value("window"), query.value("topic")) {
        (Format::Text | Format::Html, None, None) => Ok(vec![Window::Start, Window::Minutes(1)]),
        _ => Ok(vec![window]),
    }
}

fn stages(query: &Query<'_>) -> Result<Vec<Stage>, Unseen> {
    let Some(name) = query.value("stage") else {
        return Ok(Stage::ALL.to_vec());
    };
    let stage = Stage::named(name).ok_or_else(|| {
        let all: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        Unseen::Query(format!("stage is one of {}, not `{name}`", all.join(", ")))
    })?;
    Ok(vec![stage])
}

fn topic(shard: &Shard, query: &Query<'_>) -> Result<Option<TopicId>, Unseen> {
    let Some(name) = query.value("topic") else {
        return Ok(None);
    };
    let cluster = shard.topics().cluster();
    let topic = cluster.topic_named(name);
    let missing = || Unseen::Missing(format!("no topic is called `{name}`"));
    topic.map(|topic| Some(topic.id)).ok_or_else(missing)
}

/// Gathers on the shard itself, with a pause after each walk over a histogram.
async fn gather(shard: Rc<Shard>, wanted: Wanted) -> Result<Part, Unseen> {
    let (metrics, now) = (shard.metrics(), Instant::now());
    let watched = match wanted.topic {
        Some(topic) => Some(metrics.watch_topic(topic, now).map_err(too_many)?),
        None => None,
    };
    let uptime = now.saturating_duration_since(shard.begun());
    let mut bases = Vec::new();
    for window in &wanted.windows {
        bases.push(match window {
            Window::Start => None,
            Window::Minutes(minutes) => {
                metrics.window_base(Duration::from_secs(60) * *minutes, now)
            }
        });
    }
    let lengths = bases.iter().map(|base| {
        let length = base.as_ref().map(|(_, length)| *length);
        length.or(watched).unwrap_or(uptime)
    });
    let mut windows: Vec<_> = lengths.map(|length| (length, Vec::new())).collect();
    let mut stint = Stint::default();
    for &stage in &wanted.stages {
        let all = match wanted.topic {
            Some(topic) => metrics.topic_counts(topic, stage),
            None => metrics.counts(stage),
        };
        for (base, (_, stages)) in bases.iter().zip(&mut windows) {
            let counts = match base {
                Some((minute, _)) => all.since(minute.stage(stage)),
                None => all.clone(),
            };
            stages.push(StageCounts::new(stage, counts));
        }
        stint.go_on().await;
    }
    shard.gather();
    Ok(Part {
        uptime,
        windows,
        document: counted(&shard),
    })
}

fn too_many(_: TooManyWatched) -> Unseen {
    Unseen::Busy(format!(
        "{MAX_WATCHED_TOPICS} topics are recorded already; each is until {} minutes after it was last asked for",
        WATCH_TIME.as_secs() / 60
    ))
}

/// What the shard has counted, without its latencies.
fn counted(shard: &Shard) -> ShardDocument {
    let metrics = shard.metrics();
    let counters = Counter::ALL.iter();
    let counters = counters.map(|counter| (counter.name().to_owned(), metrics.counter(*counter)));
    let gauges = Gauge::ALL.iter();
    let gauges = gauges.map(|gauge| (gauge.name().to_owned(), metrics.gauge(*gauge)));
    ShardDocument {
        shard: shard.id().0,
        stages: Vec::new(),
        counters: counters.collect::<BTreeMap<_, _>>(),
        gauges: gauges.collect::<BTreeMap<_, _>>(),
    }
}

/// One document for each window, of all parts.
fn documents(
    parts: &[Part],
    wanted: &Wanted,
    topic: Option<String>,
    per_shard: bool,
) -> Vec<Document> {
    let document = |(at, window): (usize, &Window)| {
        let mut stages: Vec<StageCounts> = wanted
            .stages
            .iter()
            .map(|stage| StageCounts::new(*stage, Default::default()))
            .collect();
        for part in parts {
            for (sum, one) in stages.iter_mut().zip(&part.windows[at].1) {
                sum.latency.merge(&one.latency);
            }
        }
        let shard = |part: &Part| ShardDocument {
            stages: part.windows[at].1.clone(),
            ..part.document.clone()
        };
        let names = WINDOWS.iter().filter(|(_, known)| known == window);
        let seconds = parts.iter().map(|part| part.windows[at].0.as_secs_f64());
        Document {
            version: VERSION,
            uptime_seconds: parts.first().map_or(0.0, |part| part.uptime.as_secs_f64()),
            window: names.map(|(name, _)| *name).collect(),
            seconds: seconds.fold(0.0, f64::max),
            topic: topic.clone(),
            stages,
            shards: match per_shard {
                true => parts.iter().map(shard).collect(),
                false => Vec::new(),
            },
        }
    };
    wanted.windows.iter().enumerate().map(document).collect()
}
