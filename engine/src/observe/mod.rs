//! What the broker tells of its own work: latencies by stage, and its slowest batches.
//!
//! The same paths with the same queries are served over HTTP ([`crate::session`]) and in the native protocol, so
//! `millctl` needs no second way to a broker. Every shard gathers what is its own, stage by stage with a
//! pause between, and whichever was asked adds it up.
//!
//! | path | query | answer |
//! | --- | --- | --- |
//! | `/hist` | `format` (text, json, hgrm, html), `window` (start, 1m, 5m, 10m), `shard`, `stage`, `topic`, `per=shard` | latencies by stage |
//! | `/slow` | `format` (text, json), `shard`, `limit` | the slowest batches of the last ten minutes |
//!
//! A topic is recorded on its own from the first question about it until ten minutes after the last.

mod hist;
mod query;
mod slow;

use std::rc::Rc;

use millrace_model::ShardId;

use crate::shard::{Refusal, Shard};
use query::Query;

/// Something to show.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// It.
    pub(crate) text: String,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unseen {
    /// There is nothing at this path.
    #[error("nothing is told at `{0}`")]
    Path(String),
    /// The query cannot be understood.
    #[error("{0}")]
    Query(String),
    /// What is asked about does not exist.
    #[error("{0}")]
    Missing(String),
    /// As many topics are watched as may be.
    #[error("{0}")]
    Busy(String),
    /// A shard did not answer.
    #[error("{}", .0.message)]
    Shard(#[from] Refusal),
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Answers a question. `asked` is a path, with a query or without.
pub(crate) async fn answer(shard: &Rc<Shard>, asked: &str) -> Result<Shown, Unseen> {
    let (path, query) = asked.split_once('?').unwrap_or((asked, ""));
    match path {
        "/hist" => hist::answer(shard, &Query::parse(query, hist::KEYS)?).await,
        "/slow" => slow::answer(shard, &Query::parse(query, slow::KEYS)?).await,
        other => Err(Unseen::Path(other.to_owned())),
    }
}

/// The shards that a question is about: one, or all.
fn shards(shard: &Shard, query: &Query<'_>) -> Result<Vec<ShardId>, Unseen> {
    let Some(text) = query.value("shard") else {
        return Ok(shard.all_shards().collect());
    };
    let number: Option<u8> = text.parse().ok();
    let known = number.filter(|number| *number < shard.shards().get());
    let known = known.ok_or_else(|| {
        let last = shard.shards().get() - 1;
        Unseen::Missing(format!("there is no shard `{text}`, only 0 to {last}"))
    })?;
    Ok(vec![ShardId(known)])
}

fn json(value: &impl serde::Serialize) -> Shown {
    let text = serde_json::to_string(value).expect("documents have names as keys");
    let content_type = JSON;
    Shown { content_type, text }
}

fn html(text: String) -> Shown {
    let content_type = HTML;
    Shown { content_type, text }
}

fn text(text: String) -> Shown {
    let content_type = TEXT;
    Shown { content_type, text }
}
