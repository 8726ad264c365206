//! Fetch: records of many partitions, of all shards, in one response; and the wait for them.
//!
//! Each shard involved reads its partitions. When all together have too little, each waits for an
//! append to one of them, and whichever is first has its news read and taken; nobody polls on a
//! timer. Records leave by reference to the pages of the log, those of other shards on loan.
//!
//! A client that can be sent to another replica (version 11 and later) is also served by one that follows,
//! while that is in sync, up to its own high watermark (KIP-392).

mod nearest;
mod read;
mod records;
mod session;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_kafka::{
    FetchEpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use millrace_model::{ErrorCode, ShardId};

use super::cluster::signed_id;
use super::context::RequestContext;
use super::join::{First, Together};
use super::names;
use crate::config::ReplicaSelector;
use crate::metrics::Counter;
use crate::shard::Shard;
use read::{Found, Reads, Terms, Wanted, read_changed, read_changed_for};
pub(super) use read::{check_epoch, signed};
pub(crate) use session::Sessions;
use session::{Asked, Item, TopicKey};

/// Bytes of records in one response at most, but for a first batch that is longer, whatever the
/// client takes: what a connection can hold of the log's pages. A client that wants more asks again.
const MAX_RESPONSE: usize = 8 << 20;

/// The first version with topic ids.
const FIRST_WITH_IDS: i16 = 13;

/// The first version that says in which rack the client is, and may be sent to another replica.
const FIRST_WITH_RACK: i16 = 11;

/// `isolation_level` of a client that does not want records of open transactions.
const READ_COMMITTED: i8 = 1;

/// Serves a Fetch request.
pub(super) async fn fetch(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: FetchRequest,
) -> FetchResponse {
    let by_id = context.version >= FIRST_WITH_IDS;
    let asked = match shard.kafka().fetch_sessions().open(&request, by_id) {
        Ok(asked) => asked,
        Err(code) => {
            return FetchResponse {
                error_code: code as i16,
                ..Default::default()
            };
        }
    };
    let mut found = Gathering::new(shard, context, &request, &asked).run().await;
    shard.kafka().fetch_sessions().told(&asked, &mut found);
    FetchResponse {
        session_id: asked.session,
        responses: by_topic(&asked, found, request.isolation_level),
        ..Default::default()
    }
}

/// A request on its way to enough records.
struct Gathering<'a> {
    shard: &'a Rc<Shard>,
    wanted: BTreeMap<ShardId, Vec<Wanted>>,
    found: Vec<Option<Found>>,
    reads: Reads,
    max_bytes: usize,
    min_bytes: usize,
    until: Instant,
}

impl<'a> Gathering<'a> {
    fn new(
        shard: &'a Rc<Shard>,
        context: &RequestContext,
        request: &FetchRequest,
        asked: &Asked,
    ) -> Self {
        let mut wanted: BTreeMap<ShardId, Vec<Wanted>> = BTreeMap::new();
        let mut found = Vec::with_capacity(asked.items.len());
        for (at, item) in asked.items.iter().enumerate() {
            match locate(shard, item, at) {
                Ok(one) => {
                    let owner = shard.owner(one.log);
                    shard.metrics().count(match owner == shard.id() {
                        true => Counter::KafkaPartitionsOwned,
                        false => Counter::KafkaPartitionsForeign,
                    });
                    wanted.entry(owner).or_default().push(one);
                    found.push(None);
                }
                Err(code) => found.push(Some(Found::refused(at, code))),
            }
        }
        let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        Self {
            shard,
            wanted,
            found,
            reads: reads(shard, context.version, &request.rack_id),
            max_bytes: usize::try_from(request.max_bytes)
                .unwrap_or(0)
                .min(MAX_RESPONSE),
            min_bytes: usize::try_from(request.min_bytes)
                .unwrap_or(0)
                .min(MAX_RESPONSE),
            until: context.whole + Duration::from_millis(wait),
        }
    }

    async fn run(mut self) -> Vec<Found> {
        let news = self.look().await;
        self.take(news);
        while !self.is_enough() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let news = async { Some(self.wait().await) };
            let ended = async {
                let draining = self.shard.draining().wait();
                let timeout = async {
                    sleep(left).await;
                };
                or(draining, timeout).await;
                None
            };
            match or(news, ended).await {
                Some(news) => self.take(news),
                None => break,
            }
        }
        self.trim()
    }

    fn terms(&self, waits: bool) -> Terms {
        let held = self.bytes();
        Terms {
            max_bytes: self.max_bytes.saturating_sub(held),
            at_least_one: held == 0,
            waits,
            reads: self.reads.clone(),
        }
    }

    /// Reads of all shards what is there.
    async fn look(&self) -> Vec<Found> {
        let terms = self.terms(false);
        let news = RefCell::new(Vec::new());
        let looks = self.wanted.iter().map(|(owner, wanted)| {
            let look = self.ask(*owner, wanted.clone(), terms.clone());
            let news = &news;
            async move {
                let found = look.await;
                news.borrow_mut().extend(found);
            }
        });
        Together::new(looks).await;
        news.into_inner()
    }

    /// Waits until one of the shards has something new, and gives that.
    async fn wait(&self) -> Vec<Found> {
        let terms = self.terms(true);
        let waits = self.wanted.iter().map(|(owner, wanted)| {
            let seen = wanted.iter().map(|wanted| Wanted {
                seen: self.found[wanted.at].as_ref().map(|found| found.seen),
                ..*wanted
            });
            self.ask(*owner, seen.collect(), terms.clone())
        });
        First::new(waits).await
    }

    async fn ask(&self, owner: ShardId, wanted: Vec<Wanted>, terms: Terms) -> Vec<Found> {
        if owner == self.shard.id() {
            return read_changed(Rc::clone(self.shard), wanted, terms).await;
        }
        // Dropped with this future, which the owner notices.
        let (_alive, asker) = flume::bounded::<Infallible>(1);
        let places: Vec<usize> = wanted.iter().map(|wanted| wanted.at).collect();
        let found = self.shard.on(owner, move |shard| {
            read_changed_for(shard, wanted, terms, asker)
        });
        found.await.unwrap_or_else(|refusal| {
            let refused = |at| Found::refused(at, refusal.code);
            places.into_iter().map(refused).collect()
        })
    }

    fn take(&mut self, news: Vec<Found>) {
        for found in news {
            let at = found.at;
            self.found[at] = Some(found);
        }
    }

    fn bytes(&self) -> usize {
        let found = self.found.iter().flatten();
        found.map(|found| found.records.len()).sum()
    }

    fn is_enough(&self) -> bool {
        let urgent = self.found.iter().flatten().any(Found::is_urgent);
        urgent || self.bytes() >= self.min_bytes
    }

    /// What goes into the response: shards do not know of each other's records, so the limit is
    /// held here, in the order of the request.
    fn trim(self) -> Vec<Found> {
        let mut left = self.max_bytes;
        let mut is_first = true;
        let found = self.found.into_iter().flatten();
        found
            .map(|mut found| {
                if found.records.len() > left && !is_first {
                    found.records = records::cut(&found.records, left);
                }
                is_first &= found.records.is_empty();
                left = left.saturating_sub(found.records.len());
                found
            })
            .collect()
    }
}

/// From whom a client of this version, in this rack, reads.
fn reads(shard: &Shard, version: i16, rack: &str) -> Reads {
    let selects = shard.config().replica_selector == ReplicaSelector::Rack;
    match version >= FIRST_WITH_RACK {
        true => Reads::InSync((selects && !rack.is_empty()).then(|| rack.into())),
        false => Reads::Leader,
    }
}

fn locate(shard: &Shard, item: &Item, at: usize) -> Result<Wanted, ErrorCode> {
    let asked = match &item.topic {
        TopicKey::Name(name) => names::Asked::Name(name),
        TopicKey::Id(id) => names::Asked::Id(*id),
    };
    let wanted = &item.wanted;
    let named = names::find(shard, asked).and_then(|named| named.partition(wanted.partition));
    Ok(Wanted {
        at,
        log: named.map_err(|refusal| refusal.code)?,
        offset: wanted.fetch_offset,
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        leader_epoch: wanted.current_leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
        seen: None,
    })
}

/// Puts what belongs to one topic and stands together into one element.
fn by_topic(asked: &Asked, found: Vec<Found>, isolation: i8) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut last: Option<&TopicKey> = None;
    for found in found {
        let item = &asked.items[found.at];
        if last != Some(&item.topic) {
            last = Some(&item.topic);
            topics.push(match &item.topic {
                TopicKey::Name(name) => FetchableTopicResponse {
                    topic: name.to_string(),
                    ..Default::default()
                },
                TopicKey::Id(id) => FetchableTopicResponse {
                    topic_id: *id,
                    ..Default::default()
                },
            });
        }
        let topic = topics.last_mut().expect("one was just pushed");
        topic
            .partitions
            .push(partition(item.wanted.partition, found, isolation));
    }
    topics
}

fn partition(index: i32, found: Found, isolation: i8) -> PartitionData {
    let diverging = found
        .diverging
        .map(|(epoch, end_offset)| FetchEpochEndOffset { epoch, end_offset });
    PartitionData {
        partition_index: index,
        error_code: found.code as i16,
        high_watermark: found.high_watermark,
        // Without transactions everything is decided.
        last_stable_offset: found.high_watermark,
        log_start_offset: found.log_start,
        diverging_epoch: diverging.unwrap_or_default(),
        aborted_transactions: (isolation == READ_COMMITTED).then(Vec::new),
        preferred_read_replica: signed_id(found.nearer),
        records: found.records,
        ..Default::default()
    }
}
