//! Consumers: fills a topic, then reads all of it, one stream a partition.

use std::time::{Duration, Instant};

use millrace_client::{FrameReceiver, OffsetSpec};
use millrace_model::Offset;

use crate::BenchError;
use crate::options::Load;
use crate::payload::FrameMaker;
use crate::produce::joined;
use crate::report::{Report, Tally};
use crate::target::{BenchTopic, Target};

/// Batches in flight while the topic is filled.
const FILL_IN_FLIGHT: usize = 16;

/// Fills the topic and reads it back. The broker has just written what it is asked for;
/// what its caches do not hold comes from the device.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Report, BenchError> {
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    for partition in 0..topic.partitions as usize {
        fill(&target, &topic, load, partition).await?;
    }
    let began = Instant::now();
    let mut consumers = Vec::new();
    for partition in 0..topic.partitions as usize {
        let log = topic.log(partition);
        let (frames, opened) = target
            .client
            .consume_stream(log, OffsetSpec::Earliest)
            .await?;
        let value_len = load.record_size.get() as u64;
        consumers.push(tokio::spawn(read(frames, opened.high_watermark, value_len)));
    }
    let mut tally = Tally::default();
    for consumer in consumers {
        tally.merge(&joined(consumer).await?);
    }
    let wall = began.elapsed();
    target.close(&topic).await?;
    Ok(Report::new("consume", None, wall, &tally))
}

async fn fill(
    target: &Target,
    topic: &BenchTopic,
    load: &Load,
    partition: usize,
) -> Result<(), BenchError> {
    let log = topic.log(partition);
    let frame = FrameMaker::new(log, load, partition as u64).frame(Duration::ZERO)?;
    let per_batch = load.record_size.get() as u64 * u64::from(load.batch.get());
    let batches = load
        .fill
        .div_ceil(u64::from(topic.partitions))
        .div_ceil(per_batch);
    let (mut sender, mut acks, _) = target.client.produce_stream(log, load.acks.into()).await?;
    let mut unanswered = 0;
    for _ in 0..batches {
        if unanswered == FILL_IN_FLIGHT {
            acks.next().await?;
            unanswered -= 1;
        }
        sender.send(frame.clone()).await?;
        unanswered += 1;
    }
    sender.finish();
    while acks.next().await?.is_some() {}
    Ok(())
}

async fn read(mut frames: FrameReceiver, end: Offset, value_len: u64) -> Tally {
    let (mut tally, mut position) = (Tally::default(), Offset::ZERO);
    while position < end {
        match frames.next().await {
            Ok(Some(frame)) => {
                let records = u64::from(frame.header.record_count);
                tally.records += records;
                tally.bytes += records * value_len;
                position = frame.header.next_offset();
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
