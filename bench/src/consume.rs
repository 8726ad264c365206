//! Consumers: fills a topic, then reads all of it, one consumer a partition.

use std::time::{Duration, Instant};

use millrace_model::{Offset, PartitionId};

use crate::BenchError;
use crate::measure::Tally;
use crate::options::{AcksOption, Load};
use crate::produce::joined;
use crate::report::Measured;
use crate::target::{BenchTopic, Target};
use crate::transport::BatchReceiver;

/// Batches in flight while the topic is filled.
const FILL_IN_FLIGHT: usize = 16;

/// Fills the topic and reads it back. The broker has just written what it is asked for;
/// what its caches do not hold comes from the device.
///
/// # Errors
/// The broker cannot be reached, or refuses the topic.
pub async fn run(load: &Load) -> Result<Measured, BenchError> {
    let target = Target::open(load).await?;
    let topic = target.topic(load).await?;
    for partition in topic.partitions() {
        fill(&target, &topic, load, partition).await?;
    }
    let mut ends = Vec::new();
    for partition in topic.partitions() {
        ends.push((partition, target.end(&topic, partition).await?));
    }
    let (probe, meter) = (target.probe(), target.meter(load)?);
    let before = probe.read().await;
    let reading = read_all(&target, &topic, load, ends);
    let (read, usage) = meter.during(reading).await?;
    let stages = probe.since(before).await;
    let (tally, wall) = read?;
    target.close(&topic).await?;
    Ok(Measured {
        tally,
        wall,
        usage,
        stages,
    })
}

async fn fill(
    target: &Target,
    topic: &BenchTopic,
    load: &Load,
    partition: PartitionId,
) -> Result<(), BenchError> {
    let seed = u64::from(partition.0);
    let mut maker = target.batch_maker(topic, partition, load, seed);
    let batch = maker.batch(Duration::ZERO)?;
    let per_batch = load.record_size.get() as u64 * u64::from(load.batch.get());
    let partitions = u64::from(load.partitions.get());
    let batches = load.fill.div_ceil(partitions).div_ceil(per_batch);
    let (mut sender, mut acks) = target.producer(topic, partition, AcksOption::All).await?;
    let mut unanswered = 0;
    for _ in 0..batches {
        if unanswered == FILL_IN_FLIGHT {
            acks.next().await?;
            unanswered -= 1;
        }
        sender.send(batch.clone()).await?;
        unanswered += 1;
    }
    sender.finish();
    while acks.next().await?.is_some() {}
    Ok(())
}

async fn read_all(
    target: &Target,
    topic: &BenchTopic,
    load: &Load,
    ends: Vec<(PartitionId, Offset)>,
) -> Result<(Tally, Duration), BenchError> {
    let began = Instant::now();
    let mut consumers = Vec::new();
    for (partition, end) in ends {
        let batches = target.consumer(topic, partition, load).await?;
        let value_len = load.record_size.get() as u64;
        consumers.push(tokio::spawn(read(batches, end, began, value_len)));
    }
    let mut tally = Tally::default();
    for consumer in consumers {
        tally.merge(&joined(consumer).await?);
    }
    Ok((tally, began.elapsed()))
}

async fn read(mut batches: BatchReceiver, end: Offset, began: Instant, value_len: u64) -> Tally {
    let (mut tally, mut position) = (Tally::default(), Offset::ZERO);
    while position < end {
        match batches.next().await {
            Ok(Some(batch)) => {
                let records = batch.records();
                let bytes = records * value_len;
                tally.delivered.count(began.elapsed(), records, bytes, None);
                position = batch.next_offset();
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
