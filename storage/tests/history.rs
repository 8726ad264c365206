//! Readers of history: what they get, and what they leave in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use millrace_model::Offset;
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::{Log, ReadError};
use std::path::PathBuf;
use std::rc::Rc;
use support::{Machine, append, limits, records_in, small};

/// Frames of ten records each: some blocks of log in each of several segments.
const FRAMES: u64 = 12_000;

/// A log that is much longer than what may stay in memory, opened anew.
fn long_log() -> (Machine, Log<MemoryDisk>) {
    let mut settings = small();
    settings.segment_bytes = 1 << 20;
    let mut machine = Machine::new(5, settings);
    let (log, _) = machine.open();
    for _ in 0..FRAMES {
        append(&log, log.accepted_end().0);
    }
    machine.write(&log);
    drop(log);
    let (log, _) = machine.restart();
    let tasks = machine.tasks.clone();
    let spawner = move |task| drop(tasks.spawn(task));
    machine.storage.set_spawner(Rc::new(spawner));
    (machine, log)
}

/// Reads so many bytes at a time, and tells the most that was cached meanwhile.
fn scan(machine: &Machine, log: &Log<MemoryDisk>, step: usize) -> (Vec<u8>, u64) {
    let (log, storage) = (log.clone(), machine.storage.clone());
    machine.run(async move {
        let (mut at, mut bytes, mut most) = (Offset(0), Vec::new(), 0);
        while at < log.readable_end() {
            for run in log.read(at, step, Offset(u64::MAX)).await.unwrap() {
                assert!(run.base <= at && at < run.next);
                bytes.extend_from_slice(run.as_bytes());
                at = run.next;
            }
            most = storage.stats().cached_bytes.max(most);
        }
        (bytes, most)
    })
}

#[test]
fn a_scan_finds_everything_however_much_it_reads_at_a_time() {
    let (machine, log) = long_log();
    for step in [1_000, 100_000, 10_000_000] {
        let (bytes, _) = scan(&machine, &log, step);
        let offsets = records_in(&bytes).into_iter().map(|(offset, _)| offset);
        assert!(offsets.eq(0..FRAMES * 10), "{step} bytes at a time");
    }
}

#[test]
fn a_scan_leaves_most_of_the_cache_to_others() {
    let (machine, log) = long_log();
    let (bytes, most) = scan(&machine, &log, 50_000);
    let limit = limits().read_cache_bytes as u64;
    assert!(
        bytes.len() as u64 > 2 * limit,
        "it is longer than the cache"
    );
    assert!(most < limit * 7 / 8, "{most} bytes were in the cache");
    let rest = machine.storage.stats().cached_bytes;
    assert!(rest <= limit / 4, "{rest} bytes are left");
}

#[test]
fn damage_is_met_where_it_is_and_not_before() {
    let (machine, log) = long_log();
    let files = machine.disk.files(&PathBuf::from("/data/logs"));
    let is_first = |path: &PathBuf| path.ends_with(format!("{:020}.log", 0));
    let first = files.iter().find(|(path, _)| is_first(path));
    let (path, _) = first.expect("the first segment");
    // In the fifth block, which a reader of the first would like to read along.
    machine.disk.flip(path, 600_000, 3).unwrap();
    let reading = log.clone();
    let (got, error) = machine.run(async move {
        let (mut at, mut got) = (Offset(0), 0);
        loop {
            match reading.read(at, 10_000_000, Offset(u64::MAX)).await {
                Ok(runs) => {
                    at = runs.last().expect("there is more").next;
                    got += runs.iter().map(|run| run.as_bytes().len()).sum::<usize>();
                }
                Err(error) => return (got, error),
            }
        }
    });
    assert!((400_000..600_000).contains(&got), "{got} bytes before it");
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
}
