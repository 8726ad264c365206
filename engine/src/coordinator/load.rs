//! Makes a coordinator from its log.

use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_groups::Coordinator;
use millrace_model::{Decompressor, ErrorCode, Frame, LogId, MAX_FRAME_LEN, Offset};
use millrace_net::Stint;
use millrace_replication::Refusal;

use super::checkpoint::{CHECKPOINT_BYTES, Checkpoints};
use super::group_coordinator::GroupCoordinator;
use super::journal::Journal;
use crate::metrics::Counter;
use crate::partition::Partition;
use crate::shard::Shard;

/// Bytes read from the log at a time.
const READ_LEN: usize = 256 << 10;

/// What a compressed batch may become. Coordinators write none, but their log may be another's.
const DECOMPRESSED_LIMIT: usize = MAX_FRAME_LEN;

/// Why a coordinator is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Somebody needs it, or its groups have timers.
    First,
    /// A write failed, and what the machine knew beyond its log is void. Loaded after a pause.
    AfterFailure(Duration),
}

/// Replays the log of a coordinator and starts it.
pub(super) async fn load(
    shard: &Rc<Shard>,
    log: LogId,
    occasion: Occasion,
) -> Result<Rc<GroupCoordinator>, Refusal> {
    let began = Instant::now();
    let partition = shard.partition(log).await?;
    if partition.is_damaged() {
        let message = format!("the log of groups {log} is damaged");
        return Err(Refusal::new(ErrorCode::KafkaStorageError, message));
    }
    let settings = shard.config().group_settings();
    let mut machine = Coordinator::new(settings, fastrand::u64(..));
    all_committed(&partition).await?;
    let replayed = replay(&partition, &mut machine).await?;
    let mut effects = Vec::new();
    // From here on nothing is awaited: no change of the topics can be missed.
    let coordinators = shard.coordinators();
    let image = coordinators.images.image(shard);
    machine.loaded(coordinators.now(), image, &mut effects);
    let metrics = shard.metrics();
    metrics.count(Counter::GroupLoads);
    metrics.add(Counter::GroupRecordsReplayed, replayed.records);
    let (records, bytes) = (replayed.records, replayed.bytes);
    tracing::info!(%log, records, bytes, took = ?began.elapsed(), "groups are loaded");
    let checkpoints = Checkpoints::new(match occasion {
        Occasion::First => CHECKPOINT_BYTES,
        // It may be for want of space that a write failed: a checkpoint would fail as well.
        Occasion::AfterFailure(_) => bytes + CHECKPOINT_BYTES,
    });
    let journal = Journal::new(partition, bytes);
    Ok(GroupCoordinator::start(
        shard,
        machine,
        effects,
        journal,
        checkpoints,
    ))
}

/// Waits until everything that the log has is committed: an earlier leader may have acknowledged more
/// than this one knows to be so at first.
async fn all_committed(partition: &Partition) -> Result<(), Refusal> {
    let end = partition.log().accepted_end();
    loop {
        let changed = partition.log().changed();
        partition.check_leads()?;
        if partition.high_watermark() >= end {
            return Ok(());
        }
        changed.await;
    }
}

#[derive(Default)]
struct Replayed {
    records: u64,
    bytes: u64,
}

/// Nobody else appends to the log meanwhile: only its coordinator does.
async fn replay(partition: &Rc<Partition>, machine: &mut Coordinator) -> Result<Replayed, Refusal> {
    let (log, seed) = (partition.log(), partition.id().checksum_seed());
    let mut replayed = Replayed::default();
    let mut scratch = Decompressor::new();
    let mut stint = Stint::default();
    let mut next = log.log_start();
    while next < log.readable_end() {
        let runs = log.read(next, READ_LEN, log.readable_end()).await;
        let runs = runs.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
        for run in &runs {
            let mut bytes = run.as_bytes();
            while !bytes.is_empty() {
                let frame = Frame::check_stored(bytes, seed)
                    .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
                bytes = &bytes[frame.len()..];
                replayed.bytes += frame.len() as u64;
                let records = replay_frame(&frame, next, machine, &mut scratch);
                replayed.records += records.map_err(|why| unreadable(&frame, &why))?;
                stint.go_on().await;
            }
            next = run.next;
        }
    }
    Ok(replayed)
}

/// Replays the records of a frame from `from` on, and says how many. Batches of transactions say
/// nothing about a group here and are passed over.
fn replay_frame(
    frame: &Frame<'_>,
    from: Offset,
    machine: &mut Coordinator,
    scratch: &mut Decompressor,
) -> Result<u64, String> {
    let batch = frame.batch();
    let attributes = batch.header().attributes;
    if attributes.is_control() || attributes.is_transactional() {
        let offset = frame.header().base_offset;
        tracing::warn!(%offset, "a batch of transactions among groups is passed over");
        return Ok(0);
    }
    let records = batch.records(scratch, DECOMPRESSED_LIMIT);
    let mut replayed = 0;
    for record in records.map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        if let Some(key) = record.key.filter(|_| record.offset >= from) {
            let told = machine.replay(key, record.value, record.timestamp);
            told.map_err(|error| error.to_string())?;
            replayed += 1;
        }
    }
    Ok(replayed)
}

/// To pass over what cannot be read would be to forget what was acknowledged.
fn unreadable(frame: &Frame<'_>, why: &str) -> Refusal {
    let offset = frame.header().base_offset;
    let message = format!("the batch at offset {offset} of a log of groups cannot be read: {why}");
    Refusal::new(ErrorCode::KafkaStorageError, message)
}
