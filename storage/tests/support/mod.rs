//! A log on a disk in memory, and frames to put into it.
#![allow(unreachable_pub, reason = "a module of each test file")]
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::{Bytes, BytesMut};
use millrace_model::{
    BatchBuilder, BatchSpec, Header, LeaderEpoch, LogId, Offset, PartitionId, ProducerEpoch,
    ProducerId, ProducerStamp, Sequence, Timestamp, TopicId, TopicSettings,
};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::LocalTasks;
use millrace_storage::{Appended, Log, RecoveryReport, Storage, StorageLimits};
use std::path::PathBuf;
use std::rc::Rc;

pub const ID: LogId = LogId {
    topic: TopicId([7; 16]),
    partition: PartitionId(3),
};

/// A machine: a disk, an executor, and the storage of its present life.
pub struct Machine {
    pub disk: MemoryDisk,
    pub tasks: LocalTasks,
    pub storage: Storage<MemoryDisk>,
    pub settings: Rc<TopicSettings>,
    pub epoch: u32,
}

impl Machine {
    pub fn new(seed: u64, settings: TopicSettings) -> Self {
        Self::on(MemoryDisk::new(seed), seed, settings, 1)
    }

    pub fn on(disk: MemoryDisk, seed: u64, settings: TopicSettings, epoch: u32) -> Self {
        let storage = Storage::new(disk.clone(), PathBuf::from("/data"), limits());
        let tasks = LocalTasks::new(seed);
        Self {
            disk,
            tasks,
            storage,
            settings: Rc::new(settings),
            epoch,
        }
    }

    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        self.tasks.block_on(future).expect("the task ends")
    }

    pub fn open(&self) -> (Log<MemoryDisk>, RecoveryReport) {
        let (storage, settings, epoch) = (self.storage.clone(), self.settings.clone(), self.epoch);
        self.run(async move {
            storage
                .open_log(ID, settings, LeaderEpoch(epoch), now())
                .await
        })
        .expect("the log opens")
    }

    /// The next life on the same disk.
    pub fn restart(&mut self) -> (Log<MemoryDisk>, RecoveryReport) {
        self.tasks.kill_all();
        self.epoch += 1;
        self.storage = Storage::new(self.disk.clone(), PathBuf::from("/data"), limits());
        self.open()
    }

    /// Appends frames of ten records and writes them, one write each.
    pub fn fill(&self, log: &Log<MemoryDisk>, frames: u64) {
        for _ in 0..frames {
            append(log, log.accepted_end().0);
            self.write(log);
        }
    }

    pub fn write(&self, log: &Log<MemoryDisk>) {
        let log = log.clone();
        self.run(async move { log.write_pending().await });
    }

    /// All frames from `from` on.
    pub fn read_all(&self, log: &Log<MemoryDisk>, from: Offset) -> Vec<u8> {
        let log = log.clone();
        self.run(async move {
            let (mut at, mut bytes) = (from, Vec::new());
            while at < log.readable_end() {
                let runs = log.read(at, 1000, Offset(u64::MAX)).await.unwrap();
                for run in runs {
                    assert!(run.base <= at && at < run.next);
                    bytes.extend_from_slice(run.as_bytes());
                    at = run.next;
                }
            }
            bytes
        })
    }

    /// Offsets and values of all records from `from` on, each frame checked.
    pub fn records(&self, log: &Log<MemoryDisk>, from: Offset) -> Vec<(u64, Vec<u8>)> {
        records_in(&self.read_all(log, from))
    }
}

pub fn limits() -> StorageLimits {
    StorageLimits {
        tail_bytes: 64 << 10,
        read_cache_bytes: 1 << 20,
        ..StorageLimits::default()
    }
}

/// Small segments.
pub fn small() -> TopicSettings {
    TopicSettings {
        segment_bytes: 16 << 10,
        retention_ms: None,
        ..TopicSettings::default()
    }
}

pub fn now() -> Timestamp {
    Timestamp(1_000_000)
}

/// The values that [`frame`] gives to ten records from offset `base` on.
pub fn value(offset: u64) -> Vec<u8> {
    let mut value = format!("record {offset} ").into_bytes();
    value.resize(40 + (offset % 13) as usize, b'x');
    value
}

pub fn frame(base: u64, stamp: Option<ProducerStamp>) -> Bytes {
    let mut builder = BatchBuilder::new();
    for offset in base..base + 10 {
        let timestamp = Timestamp(900_000 + offset as i64);
        let none: [Header<'_>; 0] = [];
        builder
            .append(None, Some(&value(offset)), none, timestamp)
            .unwrap();
    }
    let mut out = BytesMut::new();
    let spec = BatchSpec {
        producer: stamp,
        ..BatchSpec::default()
    };
    builder.build_frame(ID, &spec, &mut out).unwrap();
    out.freeze()
}

/// The record batch inside [`frame`], as a Kafka client sends it.
pub fn batch(base: u64, stamp: Option<ProducerStamp>) -> Bytes {
    let frame = frame(base, stamp);
    let len = u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
    frame.slice(64..64 + len)
}

pub fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(5),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    }
}

pub fn append(log: &Log<MemoryDisk>, base: u64) -> Appended {
    let frame = frame(base, None);
    let (head, rest) = (frame.slice(..100), frame.slice(100..));
    log.append(now(), &[head, rest])
        .expect("the frame is accepted")
}

pub fn records_in(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    let mut scratch = millrace_model::Decompressor::new();
    while !bytes.is_empty() {
        let frame = millrace_model::Frame::check_stored(bytes, ID.checksum_seed()).unwrap();
        for record in frame.batch().records(&mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            records.push((record.offset.0, record.value.unwrap().to_vec()));
        }
        bytes = &bytes[frame.len()..];
    }
    records
}

/// What the log holds when offsets `range` were appended by [`append`].
pub fn expected(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|offset| (offset, value(offset))).collect()
}
