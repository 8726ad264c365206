//! Producers and consumers together: each value carries when its batch was due.

use std::time::Instant;

use millrace_client::{FrameReceiver, OffsetSpec, ReceivedFrame};
use millrace_model::{Decompressor, Frame, LogId, Offset};
use tokio::sync::watch;

use crate::BenchError;
use crate::options::Load;
use crate::payload::{STAMP_LEN, stamped};
use crate::produce::{self, Stamping, Window, joined};
use crate::report::{Report, Tally};
use crate::target::Target;

/// Most bytes that one batch may decompress to: the largest frame, far above what the load
/// makes.
const BATCH_LIMIT: usize = 256 << 20;

/// Runs producers, and one consumer a partition.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic; records too short for their stamp.
pub async fn run(load: &Load) -> Result<Report, BenchError> {
    if load.record_size.get() < STAMP_LEN {
        let why = format!("e2e needs records of {STAMP_LEN} bytes or more");
        return Err(BenchError::Options(why));
    }
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    let mut streams = Vec::new();
    for partition in 0..topic.partitions {
        let log = topic.log(partition as usize);
        let (frames, _) = target
            .client
            .consume_stream(log, OffsetSpec::Earliest)
            .await?;
        streams.push((log, frames));
    }
    let window = Window::new(load);
    let producers = produce::start(&target, &topic, load, window, Stamping::Each).await?;
    let mut consumers = Vec::new();
    for (log, frames) in streams {
        let (end, ends) = watch::channel(None);
        consumers.push((log, end, tokio::spawn(consume(log, frames, window, ends))));
    }
    let mut tally = Tally::default();
    for producer in producers {
        tally.merge(&joined(producer).await?);
    }
    for (log, end, consumer) in consumers {
        // The consumer may have failed and gone; its tally says why.
        let _ = end.send(Some(
            target
                .client
                .list_offset(log, OffsetSpec::Latest)
                .await?
                .offset,
        ));
        tally.merge(&joined(consumer).await?);
    }
    target.close(&topic).await?;
    Ok(Report::new(
        "e2e",
        load.rate.map(Into::into),
        window.length(),
        &tally,
    ))
}

/// Reads one partition until the end that is told when all producers are done.
async fn consume(
    log: LogId,
    mut frames: FrameReceiver,
    window: Window,
    mut end: watch::Receiver<Option<Offset>>,
) -> Tally {
    let (mut tally, mut scratch) = (Tally::default(), Decompressor::new());
    let mut position = Offset::ZERO;
    while end.borrow().is_none_or(|end| position < end) {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            told = end.changed() => match told {
                Ok(()) => continue,
                Err(_) => return tally, // the run was given up
            },
        };
        match frame {
            Ok(Some(frame)) => match count(log, frame, window, &mut scratch, &mut tally) {
                Ok(next) => position = next,
                Err(error) => tally.error(error),
            },
            Ok(None) => break,
            Err(error) => {
                tally.error(error);
                break;
            }
        }
    }
    tally
}

/// Counts a frame by the stamp of its first record: all were due together.
fn count(
    log: LogId,
    frame: ReceivedFrame,
    window: Window,
    scratch: &mut Decompressor,
    tally: &mut Tally,
) -> Result<Offset, String> {
    let now = Instant::now();
    let bytes = frame.into_bytes();
    let frame = Frame::check_stored(&bytes, log.checksum_seed()).map_err(|e| e.to_string())?;
    let batch = frame.batch();
    let mut records = batch
        .records(scratch, BATCH_LIMIT)
        .map_err(|e| e.to_string())?;
    let first = records
        .next()
        .ok_or("a batch without records")?
        .map_err(|e| e.to_string())?;
    let due = first.value.and_then(|value| stamped(value, window.epoch));
    let due = due.ok_or("a record without a stamp")?;
    if window.counts(due) {
        tally.deliver.record(now.saturating_duration_since(due));
    }
    Ok(frame.next_offset())
}
