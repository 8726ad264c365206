//! Producers and consumers together: each value carries when its batch was due.

use std::time::Instant;

use millrace_model::{Decompressor, Offset};
use tokio::sync::watch;

use crate::BenchError;
use crate::measure::Tally;
use crate::options::Load;
use crate::payload::{STAMP_LEN, stamped};
use crate::produce::{self, Stamping, Window, joined};
use crate::report::Measured;
use crate::target::Target;
use crate::transport::{BatchReceiver, Received};

/// Runs producers, and one consumer a partition.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic; records too short for their stamp.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    if load.record_size.get() < STAMP_LEN {
        let why = format!("e2e needs records of {STAMP_LEN} bytes or more");
        return Err(BenchError::Options(why));
    }
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    let meter = target.meter(load)?;
    let mut receivers = Vec::new();
    for partition in topic.partitions() {
        receivers.push((partition, target.consumer(&topic, partition, load).await?));
    }
    let window = Window::new(load);
    let metered = window.metered(meter);
    let stages = target.probe().during(window);
    let producers = produce::start(&target, &topic, load, window, Stamping::Each).await?;
    let mut consumers = Vec::new();
    for (partition, batches) in receivers {
        let (end, ends) = watch::channel(None);
        let value_len = load.record_size.get() as u64;
        let consumer = tokio::spawn(consume(batches, window, value_len, ends));
        consumers.push((partition, end, consumer));
    }
    let mut tally = Tally::default();
    for producer in producers {
        tally.merge(&joined(producer).await?);
    }
    for (partition, end, consumer) in consumers {
        // The consumer may have failed and gone; its tally says why.
        let _ = end.send(Some(target.end(&topic, partition).await?));
        tally.merge(&joined(consumer).await?);
    }
    let usage = joined(metered).await??;
    let stages = joined(stages).await?;
    target.close(&topic).await?;
    Ok(Measured {
        tally,
        wall: window.length(),
        usage,
        stages,
    })
}

/// Reads one partition until the end that is told when all producers are done.
async fn consume(
    mut batches: BatchReceiver,
    window: Window,
    value_len: u64,
    mut end: watch::Receiver<Option<Offset>>,
) -> Tally {
    let (mut tally, mut scratch) = (Tally::default(), Decompressor::new());
    let mut position = Offset::ZERO;
    while end.borrow().is_none_or(|end| position < end) {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            told = end.changed() => match told {
                Ok(()) => continue,
                Err(_) => return tally, // the run was given up
            },
        };
        match batch {
            Ok(Some(batch)) => {
                position = batch.next_offset();
                if let Err(error) = count(batch, window, value_len, &mut scratch, &mut tally) {
                    tally.error(error);
                }
            }
            Ok(None) => break,
            Err(error) => {
                tally.error(error);
                break;
            }
        }
    }
    tally
}

/// Counts a batch by the stamp of its first record: all were due together.
fn count(
    batch: Received,
    window: Window,
    value_len: u64,
    scratch: &mut Decompressor,
    tally: &mut Tally,
) -> Result<(), String> {
    let now = Instant::now();
    let records = batch.records();
    let due = batch.first_value(scratch, |value| stamped(value?, window.epoch))?;
    let due = due.ok_or("a record without a stamp")?;
    if window.counts(due) {
        let latency = now.saturating_duration_since(due);
        let bytes = records * value_len;
        tally
            .delivered
            .count(due - window.from, records, bytes, Some(latency));
    }
    Ok(())
}
