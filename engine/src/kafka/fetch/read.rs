//! The part of a Fetch that the owner of its partitions does: read what has changed, or wait until
//! something has.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::{or, poll_fn, poll_once};
use millrace_kafka::RecordSet;
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, LogId, Offset};
use millrace_storage::ReadError;

use super::nearest::nearer;
use super::records;
use crate::kafka::cluster::signed_epoch;
use crate::metrics::{Counter, Stage};
use crate::partition::{Partition, nanos};
use crate::session::consume::Run;
use crate::shard::{Refusal, Shard};

/// What is wanted of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its place in the request.
    pub(super) at: usize,
    pub(super) log: LogId,
    pub(super) offset: i64,
    pub(super) max_bytes: usize,
    /// The client's idea of the leader epoch, or -1.
    pub(super) leader_epoch: i32,
    /// The epoch of the last record that it has, or -1.
    pub(super) last_fetched_epoch: i32,
    /// The readable end that it has been told of already: nothing is read until there is another.
    pub(super) seen: Option<Offset>,
}

/// What was found in one partition.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: usize,
    pub(super) code: ErrorCode,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    /// The client's log has left this one's: the epoch that both have, and its end.
    pub(super) diverging: Option<(i32, i64)>,
    /// Another replica that the client is to read from.
    pub(super) nearer: Option<BrokerId>,
    pub(super) records: RecordSet,
    /// The readable end when it was read.
    pub(super) seen: Offset,
}

impl Found {
    pub(super) fn refused(at: usize, code: ErrorCode) -> Self {
        Self {
            at,
            code,
            high_watermark: -1,
            log_start: -1,
            diverging: None,
            nearer: None,
            records: RecordSet::default(),
            seen: Offset::ZERO,
        }
    }

    /// Whether it ends a wait whatever the number of bytes.
    pub(super) fn is_urgent(&self) -> bool {
        self.code != ErrorCode::None || self.diverging.is_some() || self.nearer.is_some()
    }
}

/// Which replicas a client may read from.
#[derive(Clone, Debug)]
pub(super) enum Reads {
    /// Leaders only.
    Leader,
    /// Any that is in sync; the leader sends it to one in this rack.
    InSync(Option<Arc<str>>),
}

impl Reads {
    /// Refuses partitions of which this broker has no such replica.
    fn check(&self, shard: &Shard, log: LogId) -> Result<(), Refusal> {
        match self {
            Self::Leader => shard.topics().led(log).map(drop),
            Self::InSync(_) => shard.topics().in_sync(log),
        }
    }

    async fn replica(&self, shard: &Rc<Shard>, log: LogId) -> Result<Rc<Partition>, Refusal> {
        match self {
            Self::Leader => shard.partition(log).await,
            Self::InSync(_) => shard.in_sync_replica(log).await,
        }
    }
}

/// How much may be read, from whom, and whether to wait for it.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Bytes of all partitions together.
    pub(super) max_bytes: usize,
    /// Whether the first batch is taken although it is longer.
    pub(super) at_least_one: bool,
    /// Whether to wait until there is something that was not seen.
    pub(super) waits: bool,
    pub(super) reads: Reads,
}

/// Reads of each partition what the client has not seen, on the shard that owns all of them.
pub(super) async fn read_changed(
    shard: Rc<Shard>,
    wanted: Vec<Wanted>,
    terms: Terms,
) -> Vec<Found> {
    let mut partitions = Vec::with_capacity(wanted.len());
    let mut found = Vec::new();
    for wanted in wanted {
        match terms.reads.replica(&shard, wanted.log).await {
            Ok(partition) => partitions.push((wanted, partition)),
            Err(refusal) => found.push(Found::refused(wanted.at, refusal.code)),
        }
    }
    let mut waited = false;
    loop {
        // Before the look, so that nothing passes between the two.
        let mut changes: Vec<_> = match terms.waits {
            true => partitions.iter().map(|(_, p)| change(p)).collect(),
            false => Vec::new(),
        };
        let mut left = terms.max_bytes;
        let mut at_least_one = terms.at_least_one;
        for (wanted, partition) in &partitions {
            // Another broker may lead since then, or this one have fallen behind.
            if let Err(refusal) = terms.reads.check(&shard, wanted.log) {
                found.push(Found::refused(wanted.at, refusal.code));
                continue;
            }
            if wanted.seen == Some(partition.readable_end()) && partition.ended_with().is_none() {
                continue;
            }
            let limits = (left.min(wanted.max_bytes), at_least_one);
            let one = read_one(&shard, partition, wanted, &terms.reads, limits).await;
            left = left.saturating_sub(one.records.len());
            at_least_one &= one.records.is_empty();
            if waited && !one.records.is_empty() {
                let since = nanos(partition.readable_since().elapsed());
                let topic = partition.id().topic;
                shard.metrics().record(Stage::Deliver, topic, since);
            }
            found.push(one);
        }
        if !found.is_empty() || !terms.waits {
            return found;
        }
        any(&mut changes).await;
        waited = true;
    }
}

/// As [`read_changed`], with records that may go to another shard, and ending without anything once
/// nobody waits for it.
pub(super) async fn read_changed_for(
    shard: Rc<Shard>,
    wanted: Vec<Wanted>,
    terms: Terms,
    asker: flume::Receiver<Infallible>,
) -> Vec<Found> {
    let gone = async {
        // Nothing is ever sent: an answer means that the other end is gone.
        let _ = asker.recv_async().await;
        Vec::new()
    };
    let mut found = or(read_changed(Rc::clone(&shard), wanted, terms), gone).await;
    for one in &mut found {
        let records = std::mem::take(&mut one.records);
        let lent = shard.lender().lend(records.into_chunks());
        one.records = lent.into_iter().collect();
    }
    found
}

type Change<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Resolves when there may be something new in a partition, or it is gone.
fn change(partition: &Rc<Partition>) -> Change<'_> {
    let changed = partition.log().changed();
    Box::pin(async move {
        let ended = async {
            partition.ended().await;
        };
        or(changed, ended).await;
    })
}

/// Resolves when one of them does. Never, if there are none.
async fn any(changes: &mut [Change<'_>]) {
    poll_fn(|cx| {
        let is_ready = |change: &mut Change<'_>| change.as_mut().poll(cx).is_ready();
        match changes.iter_mut().any(is_ready) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// The code for a client that believes in another leader epoch than the partition's.
pub(in crate::kafka) fn check_epoch(partition: &Partition, claimed: i32) -> Result<(), ErrorCode> {
    let current = signed_epoch(partition.leader_epoch());
    match claimed {
        ..0 => Ok(()),
        _ if claimed < current => Err(ErrorCode::FencedLeaderEpoch),
        _ if claimed > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

async fn read_one(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    wanted: &Wanted,
    reads: &Reads,
    limits: (usize, bool),
) -> Found {
    match try_read_one(shard, partition, wanted, reads, limits).await {
        Ok(found) => found,
        Err(code) => Found::refused(wanted.at, code),
    }
}

async fn try_read_one(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    wanted: &Wanted,
    reads: &Reads,
    (limit, at_least_one): (usize, bool),
) -> Result<Found, ErrorCode> {
    check_epoch(partition, wanted.leader_epoch)?;
    if let Some(code) = partition.ended_with() {
        return Err(code);
    }
    let log = partition.log();
    let seen = partition.readable_end();
    let found = |records, diverging| Found {
        at: wanted.at,
        code: ErrorCode::None,
        high_watermark: signed(partition.high_watermark()),
        log_start: signed(log.log_start()),
        diverging,
        nearer: None,
        records,
        seen,
    };
    let offset = u64::try_from(wanted.offset).map_err(|_| ErrorCode::OffsetOutOfRange)?;
    let offset = Offset(offset);
    if partition.follows() && offset > partition.high_watermark() {
        // The leader may have shown more than is known here; what lies above may yet be cut away.
        return match offset <= log.accepted_end() {
            true => Ok(found(RecordSet::default(), None)),
            false => Err(ErrorCode::OffsetNotAvailable),
        };
    }
    if let Some(diverging) = diverging(partition, wanted.last_fetched_epoch, offset)? {
        return Ok(found(RecordSet::default(), Some(diverging)));
    }
    if offset < log.log_start() || offset > log.accepted_end() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if let Reads::InSync(Some(rack)) = reads
        && let Some(nearer) = nearer(shard, partition, rack, offset)
    {
        return Ok(Found {
            nearer: Some(nearer),
            ..found(RecordSet::default(), None)
        });
    }
    // A read behind the damage of a damaged log says what is wrong.
    if offset >= seen && !partition.is_damaged() || limit == 0 && !at_least_one {
        return Ok(found(RecordSet::default(), None));
    }
    let runs = read(shard, partition, offset, limit).await?;
    let len: usize = runs.iter().map(|run| run.as_bytes().len()).sum();
    if len > limit && !at_least_one {
        // One frame alone, longer than what is left.
        return Ok(found(RecordSet::default(), None));
    }
    let mut records = RecordSet::default();
    let metrics = shard.metrics();
    for run in runs {
        metrics.add(Counter::BytesOut, run.as_bytes().len() as u64);
        metrics.add(Counter::BatchesOut, run.batches().count() as u64);
        let count = run.next.0 - run.base.0;
        metrics.add(Counter::RecordsOut, count);
        if partition.follows() {
            metrics.add(Counter::FollowerRecordsOut, count);
        }
        records::add(&mut records, run);
    }
    Ok(found(records, None))
}

/// Where the client's log leaves this one's, if it does (KIP-320).
fn diverging(
    partition: &Partition,
    last_fetched: i32,
    offset: Offset,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    let Ok(last_fetched) = u32::try_from(last_fetched) else {
        return Ok(None);
    };
    let last_fetched = LeaderEpoch(last_fetched);
    let (epoch, end) = partition.log().end_offset_for_epoch(last_fetched);
    let leaves = epoch < last_fetched || end < offset;
    let epoch = i32::try_from(epoch.0).unwrap_or(i32::MAX);
    Ok(leaves.then_some((epoch, signed(end))))
}

/// Reads in the foreground what is in memory, and among the cold reads what is not.
async fn read(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    from: Offset,
    limit: usize,
) -> Result<Vec<Run>, ErrorCode> {
    let below = partition.readable_end();
    let reader = Rc::clone(partition);
    let mut reading = Box::pin(async move { reader.log().read(from, limit, below).await });
    let (counter, runs) = match poll_once(reading.as_mut()).await {
        Some(runs) => (Counter::CacheHits, runs),
        None => (Counter::CacheMisses, shard.spawn_catch_up(reading).await),
    };
    shard.metrics().count(counter);
    runs.map_err(|error: ReadError| {
        let code = error.code();
        if code != ErrorCode::OffsetOutOfRange {
            tracing::error!(log = %partition.id(), %error, "a consumer cannot be served");
        }
        code
    })
}

pub(in crate::kafka) fn signed(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
