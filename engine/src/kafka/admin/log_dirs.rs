//! DescribeLogDirs: the data directory, its partitions' sizes, and the room on its file system.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use millrace_kafka::messages::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_model::{ErrorCode, LogId, PartitionId};
use millrace_replication::Refusal;

use crate::kafka::context::RequestContext;
use crate::shard::Shard;

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
        topics.entry(wanted[&log].clone()).or_default().push(partition);
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(name, partitions)| DescribeLogDirsTopic { name, partitions });
    // A file system that does not say is one of unknown size, which Kafka writes as -1.
    let space = space(&data_dir).unwrap_or(Space { total: -1, usable: -1 });
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: error as i16,
            log_dir: data_dir.display().to_string(),
            topics: topics.collect(),
            total_bytes: space.total,
            usable_bytes: space.usable,
            ..DescribeLogDirsResult::default()
        }],
        ..DescribeLogDirsResponse::default()
    }
}

/// The partitions that are asked for and exist, with their topics' names.
fn wanted(shard: &Shard, request: &DescribeLogDirsRequest) -> BTreeMap<LogId, String> {
    let metadata = shard.topics().metadata();
    let mut wanted = BTreeMap::new();
    let mut add = |name: &str, of: &mut dyn Iterator<Item = u32>| {
        let Some(topic) = metadata.topic_named(name) else {
            return;
        };
        for partition in of.filter(|partition| *partition < topic.partitions) {
            let partition = PartitionId(partition);
            let log = LogId { topic: topic.id, partition };
            wanted.insert(log, name.to_owned());
        }
    };
    match &request.topics {
        None => {
            for topic in metadata.topics() {
                add(&topic.name, &mut (0..topic.partitions));
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
        let owned: Vec<LogId> = logs.iter().copied().filter(|log| shard.owner(*log) == owner).collect();
        if owned.is_empty() {
            continue;
        }
        let sizes = shard.on(owner, move |shard| own_sizes(shard, owned)).await??;
        of_all.extend(sizes);
    }
    Ok(of_all)
}

async fn own_sizes(shard: Rc<Shard>, logs: Vec<LogId>) -> Result<Vec<(LogId, u64)>, Refusal> {
    let mut sizes = Vec::with_capacity(logs.len());
    for log in logs {
        // A partition that nobody uses is not opened for this.
        let bytes = match shard.open_partition(log) {
            Some(partition) => partition.log().stats().disk_bytes,
            None => shard.closed_log_bytes(log).await.map_err(|error| {
                Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
            })?,
        };
        sizes.push((log, bytes));
    }
    Ok(sizes)
}

struct Space {
    total: i64,
    usable: i64,
}

/// What the file system of `path` holds and has left, in bytes.
fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero bytes are a valid `statvfs`, a structure of numbers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and `stat` is writable and lives during the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX);
    Ok(Space {
        total: bytes(stat.f_blocks),
        usable: bytes(stat.f_bavail),
    })
}
