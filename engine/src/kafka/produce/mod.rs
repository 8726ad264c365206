//! Produce: every batch of a request to the shard that owns its partition, and their fates
//! gathered into one response.
//!
//! All batches are on their way when the handler first waits: those of this shard are appended,
//! those of other shards lie in their inboxes. So the order of a connection's requests is the order
//! in its logs. A batch is the client's bytes: it is copied once, into the append buffer, also when
//! another shard owns the partition.
//!
//! The memory of a request is held until the response is made, so what waits for a device counts
//! against the budget of the shard that received it.

mod gather;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_kafka::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use millrace_model::{
    BatchError, BatchHeader, Compression, ErrorCode, LogId, ShardId, TimestampType,
};
use millrace_replication::partition;

use super::appends::{Append, Arrival, append};
use super::context::RequestContext;
use super::join::Together;
use super::names::{self, Asked};
use crate::lane::Place;
use crate::metrics::{Counter, SlowBatch, Stage};
use crate::partition::nanos;
use crate::shard::{Refusal, Shard, clock};
use gather::Last;
pub(crate) use gather::{Fate, Gather};

/// The first version whose clients read zstd, by KIP-110.
const FIRST_WITH_ZSTD: i16 = 7;

/// What a producer wants to hear.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    /// Nothing, not even of errors.
    None,
    /// One answer, when those have the batches who must.
    Stored,
}

/// How a Produce request ends.
pub(super) enum Produced {
    Answer(ProduceResponse),
    /// The client wants no answer.
    Silence,
    /// The client wants no answer and must learn of an error: by the end of its connection.
    Close,
}

/// Serves a Produce request.
pub(super) async fn produce(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ProduceRequest,
) -> Produced {
    let arrival = Arrival {
        receive_nanos: nanos(context.whole - context.begun),
        whole: context.whole,
        acks: match request.acks {
            -1 => partition::Acks::All,
            _ => partition::Acks::Leader,
        },
    };
    let acks = match request.acks {
        0 => Ok(Acks::None),
        -1 | 1 => Ok(Acks::Stored),
        other => {
            let message = format!("acks is 0, 1 or -1, not {other}");
            Err(Refusal::new(ErrorCode::InvalidRequiredAcks, message))
        }
    };
    let refused = acks.as_ref().err().cloned().or_else(|| {
        request.transactional_id.as_ref().map(|_| {
            let message = "transactions are not served";
            Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, message)
        })
    });
    let gather = Rc::new(Gather::new(count(&request)));
    let mut plan = Plan::default();
    plan.fill(shard, context, &request, &gather, refused.as_ref());
    let forwarded = plan.begin(shard, arrival, &gather);
    // The first poll of this hands the batches of other shards to their inboxes.
    let gathered = async {
        let complete = async {
            gather.complete().await;
            true
        };
        let forwarded = async {
            forwarded.await;
            gather.complete().await;
            true
        };
        or(forwarded, complete).await
    };
    let timeout = async {
        sleep(timeout(&request)).await;
        false
    };
    or(gathered, timeout).await;
    let fates = gather.fates();
    if let Some(last) = gather.last() {
        plan.account(shard, context, last);
    }
    match acks {
        Ok(Acks::None) => {
            let is_stored = |fate: &Option<Fate>| {
                fate.as_ref()
                    .is_some_and(|fate| fate.code == ErrorCode::None)
            };
            match fates.iter().all(is_stored) {
                true => Produced::Silence,
                false => {
                    let (peer, client) = (context.peer, context.client_id.as_deref());
                    tracing::debug!(%peer, client, "batches without acknowledgement were refused");
                    Produced::Close
                }
            }
        }
        _ => Produced::Answer(response(request, fates, &plan.placed)),
    }
}

fn count(request: &ProduceRequest) -> usize {
    let topics = request.topic_data.iter();
    topics.map(|topic| topic.partition_data.len()).sum()
}

fn timeout(request: &ProduceRequest) -> Duration {
    Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0))
}

/// A batch for another shard.
struct Forward {
    place: Place,
    log: LogId,
    batch: Bytes,
}

/// Where the batches of a request go.
#[derive(Default)]
struct Plan {
    here: Vec<Forward>,
    elsewhere: BTreeMap<ShardId, Vec<Forward>>,
    placed: Vec<Placed>,
}

/// What is known of the batch of one place.
#[derive(Clone, Copy)]
struct Placed {
    /// Where it goes, unless it is refused at once.
    log: Option<LogId>,
    /// Whether the broker's clock is what its records have as their timestamp.
    takes_append_time: bool,
}

impl Plan {
    /// Finds the owner of every batch, and refuses what cannot be stored.
    fn fill(
        &mut self,
        shard: &Rc<Shard>,
        context: &RequestContext,
        request: &ProduceRequest,
        gather: &Gather,
        refused: Option<&Refusal>,
    ) {
        for topic in &request.topic_data {
            let named = names::find(shard, asked(context, topic));
            let named = named.and_then(|named| match named.is_internal() {
                true => Err(Refusal::new(
                    ErrorCode::InvalidTopicException,
                    "clients do not write to this topic",
                )),
                false => Ok(named),
            });
            for partition in &topic.partition_data {
                let place = Place(self.placed.len() as u64);
                let mut takes_append_time = false;
                let checked = match (refused, &named) {
                    (Some(refusal), _) | (None, Err(refusal)) => Err(refusal.clone()),
                    (None, Ok(named)) => named.partition(partition.index).and_then(|log| {
                        let settings = shard.topic_settings(log)?;
                        takes_append_time =
                            settings.message_timestamp_type == TimestampType::LogAppendTime;
                        let limit = settings.max_message_bytes as usize;
                        Ok((log, check(partition, context.version, limit)?))
                    }),
                };
                self.placed.push(Placed {
                    log: checked.as_ref().ok().map(|(log, _)| *log),
                    takes_append_time,
                });
                match checked {
                    Ok((log, batch)) => self.add(shard, Forward { place, log, batch }),
                    Err(refusal) => {
                        shard.metrics().refused(refusal.code);
                        gather.refuse(place, refusal);
                    }
                }
            }
        }
    }

    fn add(&mut self, shard: &Shard, forward: Forward) {
        let owner = shard.owner(forward.log);
        if owner == shard.id() {
            shard.metrics().count(Counter::KafkaPartitionsOwned);
            self.here.push(forward);
        } else {
            shard.metrics().count(Counter::KafkaPartitionsForeign);
            self.elsewhere.entry(owner).or_default().push(forward);
        }
    }

    /// Accounts for the time of a request by that of the batch that it waited for longest.
    fn account(&self, shard: &Shard, context: &RequestContext, last: Last) {
        let at = usize::try_from(last.place.0).expect("places are few");
        let Some(log) = self.placed[at].log else {
            return;
        };
        let (metrics, now) = (shard.metrics(), Instant::now());
        let ack_nanos = nanos(now - last.due);
        metrics.count(Counter::Acks);
        metrics.record(Stage::Ack, log.topic, ack_nanos);
        let total = last.trace.total().saturating_add(ack_nanos);
        metrics.offer_slow(now, total, || SlowBatch {
            at: clock::timestamp(),
            log,
            peer: context.peer.ip(),
            protocol: "kafka",
            trace: last.trace,
            ack_nanos,
        });
    }

    /// Appends what belongs here, and returns what hands the rest to its owners when it is first
    /// polled and ends when all of them have answered.
    fn begin(
        &mut self,
        shard: &Rc<Shard>,
        arrival: Arrival,
        gather: &Rc<Gather>,
    ) -> impl Future<Output = ()> + use<> {
        for Forward { place, log, batch } in self.here.drain(..) {
            let gather = Rc::clone(gather);
            let one = Append {
                log,
                batch,
                arrival,
                gather,
                place,
            };
            append(shard, one);
        }
        let forwards = std::mem::take(&mut self.elsewhere).into_iter();
        Together::new(forwards.map(|(owner, batches)| {
            let (shard, gather) = (Rc::clone(shard), Rc::clone(gather));
            async move { forward(&shard, owner, batches, arrival, &gather).await }
        }))
    }
}

/// Has batches appended by their owner.
async fn forward(
    shard: &Rc<Shard>,
    owner: ShardId,
    batches: Vec<Forward>,
    arrival: Arrival,
    gather: &Gather,
) {
    let places: Vec<Place> = batches.iter().map(|batch| batch.place).collect();
    let batches: Vec<(LogId, Bytes)> = batches
        .into_iter()
        .map(|forward| (forward.log, forward.batch))
        .collect();
    let fates: Result<Vec<Fate>, Refusal> = shard
        .on(owner, move |owner| append_all(&owner, batches, arrival))
        .await;
    match fates {
        Ok(fates) => {
            let fates = places.into_iter().zip(fates);
            fates.for_each(|(place, fate)| gather.set(place, fate));
        }
        Err(refusal) => {
            let places = places.into_iter();
            places.for_each(|place| gather.refuse(place, refusal.clone()));
        }
    }
}

/// Appends on the owning shard, at once, and waits for the fates.
fn append_all(
    shard: &Rc<Shard>,
    batches: Vec<(LogId, Bytes)>,
    arrival: Arrival,
) -> impl Future<Output = Vec<Fate>> + use<> {
    let gather = Rc::new(Gather::new(batches.len()));
    for (place, (log, batch)) in (0..).map(Place).zip(batches) {
        let gather = Rc::clone(&gather);
        let one = Append {
            log,
            batch,
            arrival,
            gather,
            place,
        };
        append(shard, one);
    }
    async move {
        gather.complete().await;
        gather.fates().into_iter().flatten().collect()
    }
}

fn asked<'a>(context: &RequestContext, topic: &'a TopicProduceData) -> Asked<'a> {
    match context.version {
        ..13 => Asked::Name(&topic.name),
        _ => Asked::Id(topic.topic_id),
    }
}

/// The batch that a client sent, if it is one and not of a kind that its version does not have.
fn check(partition: &PartitionProduceData, version: i16, limit: usize) -> Result<Bytes, Refusal> {
    let refuse = |code, message: &str| Err(Refusal::new(code, message));
    let Some(records) = partition.records.as_ref().filter(|set| !set.is_empty()) else {
        return refuse(ErrorCode::InvalidRecord, "the request has no record batch");
    };
    let header = match BatchHeader::parse(records) {
        Ok(header) => header,
        Err(error) => {
            let code = match error {
                BatchError::Magic(0 | 1) => ErrorCode::UnsupportedForMessageFormat,
                _ => error.code(),
            };
            return refuse(code, &error.to_string());
        }
    };
    if header.len < records.len() {
        let message = "a request has exactly one record batch for a partition";
        return refuse(ErrorCode::InvalidRecord, message);
    }
    if header.len > limit {
        let message = format!(
            "the batch has {} bytes, max.message.bytes allows {limit}",
            header.len
        );
        return refuse(ErrorCode::MessageTooLarge, &message);
    }
    if header.compression == Compression::Zstd && version < FIRST_WITH_ZSTD {
        let message = "zstd is for Produce from version 7 on";
        return refuse(ErrorCode::UnsupportedCompressionType, message);
    }
    Ok(records.clone())
}

fn response(
    request: ProduceRequest,
    fates: Vec<Option<Fate>>,
    placed: &[Placed],
) -> ProduceResponse {
    let append_times = placed.iter().map(|placed| placed.takes_append_time);
    let mut fates = fates.into_iter().zip(append_times);
    let mut partition = |data: &PartitionProduceData| {
        let (fate, takes_append_time) = fates.next().expect("every partition has a place");
        partition_response(data.index, fate, takes_append_time)
    };
    let topic = |topic: TopicProduceData| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.iter().map(&mut partition).collect(),
    };
    ProduceResponse {
        responses: request.topic_data.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

fn partition_response(
    index: i32,
    fate: Option<Fate>,
    takes_append_time: bool,
) -> PartitionProduceResponse {
    let refused = |code: ErrorCode, message| PartitionProduceResponse {
        index,
        error_code: code as i16,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: message,
        ..Default::default()
    };
    match fate {
        None => refused(
            ErrorCode::RequestTimedOut,
            Some("the batch was not stored in time; it may be stored later".to_owned()),
        ),
        Some(fate) if fate.code != ErrorCode::None => refused(fate.code, fate.message),
        Some(fate) => PartitionProduceResponse {
            index,
            base_offset: signed(fate.base_offset),
            log_append_time_ms: match takes_append_time {
                true => fate.append_timestamp,
                false => -1,
            },
            log_start_offset: signed(fate.log_start),
            ..Default::default()
        },
    }
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
