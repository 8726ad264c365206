//! DescribeLogDirs: the data directory, its partitions' sizes, and the room on its file system.

use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_kafka::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_model::{ErrorCode, LogId, PartitionId};
use millrace_replication::Refusal;

use crate::file_system::{Space, space};
use crate::kafka::context::RequestContext;
use crate::shard::{Shard, partition_count};

/// Answers DescribeLogDirs. A topic that does not exist is left out, as in Kafka.
pub(in crate::kafka) async fn describe_log_dirs(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let wanted = wanted(shard, &request);
    let data_dir = std::path::absolute(&shard.config().data_dir)
        .unwrap_or_else(|_| shard.config().data_dir.clone());
    let (sizes, error) = match sizes(shard, wanted.keys().copied().collect()).await {
        Ok(sizes) => (sizes, ErrorCode::None),
        Err(refusal) => (BTreeMap::new(), refusal.code),
    };
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (log, bytes) in sizes {
        let partition = DescribeLogDirsPartition {
            partition_index: i32::try_from(log.partition.0).unwrap_or(i32::MAX),
            partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
            ..DescribeLogDirsPartition::default()
        };
        topics
            .entry(wanted[&log].clone())
            .or_default()
            .push(partition);
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
    // A file system that does not say is one of unknown size, which Kafka writes as -1.
    let space = space(&data_dir).ok();
    let bytes = |of: fn(Space) -> u64| {
        space.map_or(-1, |space| i64::try_from(of(space)).unwrap_or(i64::MAX))
    };
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: error as i16,
            log_dir: data_dir.display().to_string(),
            topics: topics.collect(),
            total_bytes: bytes(|space| space.total),
            usable_bytes: bytes(|space| space.usable),
        }],
        ..DescribeLogDirsResponse::default()
    }
}

/// The partitions that are asked for and exist, with their topics' names.
fn wanted(shard: &Shard, request: &DescribeLogDirsRequest) -> BTreeMap<LogId, String> {
    let cluster = shard.topics().cluster();
    let mut wanted = BTreeMap::new();
    let mut add = |name: &str, of: &mut dyn Iterator<Item = u32>| {
        let Some(topic) = cluster.topic_named(name) else {
            return;
        };
        for partition in of.filter(|partition| *partition < partition_count(topic)) {
            let partition = PartitionId(partition);
            let log = LogId {
                topic: topic.id,
                partition,
            };
            if shard.topics().is_held(log) {
                wanted.insert(log, name.to_owned());
            }
        }
    };
    match &request.topics {
        None => {
            for topic in cluster.topics() {
                add(&topic.name, &mut (0..partition_count(topic)));
            }
        }
        Some(topics) => {
            for topic in topics {
                let partitions = topic.partitions.iter();
                let mut partitions = partitions.filter_map(|p| u32::try_from(*p).ok());
                add(&topic.topic, &mut partitions);
            }
        }
    }
    wanted
}

/// The size of each log, asked of the shards that own them.
async fn sizes(shard: &Rc<Shard>, logs: Vec<LogId>) -> Result<BTreeMap<LogId, u64>, Refusal> {
    let mut of_all = BTreeMap::new();
    for owner in shard.all_shards() {
        let owned: Vec<LogId> = logs
            .iter()
            .copied()
            .filter(|log| shard.owner(*log) == owner)
            .collect();
        if owned.is_empty() {
            continue;
        }
        let sizes = shard
            .on(owner, move |shard| own_sizes(shard, owned))
            .await??;
        of_all.extend(sizes);
    }
    Ok(of_all)
}

async fn own_sizes(shard: Rc<Shard>, logs: Vec<LogId>) -> Result<Vec<(LogId, u64)>, Refusal> {
    let mut sizes = Vec::with_capacity(logs.len());
    for log in logs {
        let bytes = shard.disk_bytes(log).await;
        let bytes =
            bytes.map_err(|error| Refusal::new(ErrorCode::KafkaStorageError, error.to_string()))?;
        sizes.push((log, bytes));
    }
    Ok(sizes)
}
