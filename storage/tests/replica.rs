//! A log as one of several replicas: it becomes what its leader's is, byte for byte, begins epochs,
//! is cut where its leader's differs, and starts anew, through crashes at any point.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use millrace_model::{ErrorCode, FrameHeader, LeaderEpoch, LogId, Offset, PartitionId};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::{ChangeError, Log, ReplicaError, ReplicaRun};
use support::{ID, Machine, append, expected, frame, now, small, stamp};

type MemoryLog = Log<MemoryDisk>;

/// What a leader sends from `from` on, in chunks of random lengths.
fn sent(machine: &Machine, log: &MemoryLog, from: u64, random: &mut fastrand::Rng) -> ReplicaRun {
    let bytes = Bytes::from(machine.read_all(log, Offset(from)));
    run_of(bytes, random).unwrap()
}

fn run_of(mut bytes: Bytes, random: &mut fastrand::Rng) -> Result<ReplicaRun, ReplicaError> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let len = random.usize(1..=bytes.len().min(700));
        chunks.push(bytes.split_to(len));
    }
    ReplicaRun::check(ID, chunks)
}

fn epochs(log: &MemoryLog) -> Vec<(u32, u64)> {
    let epochs = log.leader_epochs();
    let starts = epochs.starts().iter();
    starts.map(|one| (one.epoch.0, one.start.0)).collect()
}

/// A leader of several epochs with an idempotent producer, in small segments.
fn leader(machine: &Machine) -> MemoryLog {
    let (log, _) = machine.open();
    for epoch in [2, 3, 7] {
        log.begin_epoch(LeaderEpoch(epoch)).unwrap();
        for _ in 0..12 {
            let base = log.accepted_end().0;
            let stamped = frame(base, Some(stamp(0, i32::try_from(base).unwrap())));
            log.append(now(), &[stamped]).unwrap();
            machine.write(&log);
        }
    }
    log
}

fn assert_same(leader: (&Machine, &MemoryLog), follower: (&Machine, &MemoryLog)) {
    let (ends, of_leader) = (follower.1.ends(), leader.1.ends());
    assert_eq!(ends.accepted, of_leader.accepted);
    assert_eq!(epochs(follower.1), epochs(leader.1));
    assert_eq!(follower.1.producers(), leader.1.producers());
    let from = Offset(0);
    let bytes = follower.0.read_all(follower.1, from);
    assert!(bytes == leader.0.read_all(leader.1, from), "other bytes");
}

#[test]
fn a_follower_has_the_leaders_bytes_epochs_and_producers() {
    let mut random = fastrand::Rng::with_seed(1);
    let machine = Machine::new(1, small());
    let led = leader(&machine);
    let mut other = Machine::new(2, small());
    let (log, _) = other.open();
    for to in [110, 240, 360] {
        let run = sent(&machine, &led, log.accepted_end().0, &mut random);
        assert!(run.end() >= Offset(to));
        let whole: Vec<u8> = machine.read_all(&led, run.base());
        // A part of it, then what is left.
        let part = whole_frames(&whole, to - run.base().0);
        let run = run_of(part, &mut random).unwrap();
        log.append_replica(now(), &run).unwrap();
        assert_eq!(log.accepted_end(), Offset(to));
        other.write(&log);
    }
    assert_same((&machine, &led), (&other, &log));
    let repeated = frame(0, Some(stamp(0, 350)));
    assert!(log.append(now(), &[repeated]).unwrap().duplicate);
    drop(log);
    let (log, report) = other.restart();
    assert_eq!(report.damaged_at, None, "{report:?}");
    assert_same((&machine, &led), (&other, &log));
}

/// The frames at the start of these with so many records.
fn whole_frames(bytes: &[u8], mut records: u64) -> Bytes {
    let mut at = 0;
    while records > 0 {
        let header = FrameHeader::parse(&bytes[at..], ID.checksum_seed()).unwrap();
        at += header.len();
        records -= u64::from(header.record_count);
    }
    Bytes::copy_from_slice(&bytes[..at])
}

#[test]
fn what_does_not_follow_is_refused_and_leaves_no_trace() {
    let mut random = fastrand::Rng::with_seed(2);
    let machine = Machine::new(1, small());
    let led = leader(&machine);
    let other = Machine::new(2, small());
    let (log, _) = other.open();
    let late = sent(&machine, &led, 10, &mut random);
    let refused = log.append_replica(now(), &late).unwrap_err();
    assert!(matches!(refused, ReplicaError::Gap { .. }), "{refused}");
    assert_eq!(log.ends().accepted, Offset(0));

    // A batch that is damaged in the second frame: the first one stays.
    let mut bytes = machine.read_all(&led, Offset(0));
    let first = whole_frames(&bytes, 10).len();
    bytes[first + 200] ^= 1;
    let run = run_of(bytes.into(), &mut random).unwrap();
    let refused = log.append_replica(now(), &run).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CorruptMessage, "{refused}");
    assert_eq!(log.ends().accepted, Offset(10));
    other.write(&log);

    // An epoch that falls.
    log.begin_epoch(LeaderEpoch(5)).unwrap();
    append(&log, 10);
    other.write(&log);
    let run = sent(&machine, &led, 20, &mut random);
    let refused = log.append_replica(now(), &run).unwrap_err();
    assert!(matches!(refused, ReplicaError::Epoch { .. }), "{refused}");
    assert_eq!(log.ends().accepted, Offset(20));
}

#[test]
fn hostile_runs_are_refused() {
    let mut random = fastrand::Rng::with_seed(3);
    let machine = Machine::new(1, small());
    let led = leader(&machine);
    let bytes = machine.read_all(&led, Offset(0));
    let elsewhere = LogId {
        partition: PartitionId(9),
        ..ID
    };
    let all = Bytes::from(bytes.clone());
    assert!(ReplicaRun::check(elsewhere, vec![all.clone()]).is_err());
    assert!(ReplicaRun::check(ID, Vec::new()).is_err());
    for len in [1, 63, 64, 100, bytes.len() - 1] {
        let cut = Bytes::copy_from_slice(&bytes[..len]);
        assert!(run_of(cut, &mut random).is_err(), "{len} bytes");
    }
    // Two frames that do not follow each other.
    let one = whole_frames(&bytes, 10);
    assert!(ReplicaRun::check(ID, vec![one.clone(), one]).is_err());
    for _ in 0..2_000 {
        let mut rotten = bytes.clone();
        let at = random.usize(..rotten.len());
        rotten[at] ^= 1 << random.u8(..8);
        let other = Machine::new(2, small());
        let (log, _) = other.open();
        let refused = match run_of(rotten.into(), &mut random) {
            Ok(run) => log.append_replica(now(), &run).is_err(),
            Err(_) => true,
        };
        assert!(refused, "byte {at}");
    }
}

#[test]
fn an_epoch_begins_where_the_log_ends_and_none_comes_back() {
    let mut machine = Machine::new(1, small());
    let log = leader(&machine);
    assert_eq!(epochs(&log), [(2, 0), (3, 120), (7, 240)]);
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(4)),
        (LeaderEpoch(3), Offset(240))
    );
    let back = log.begin_epoch(LeaderEpoch(6)).unwrap_err();
    assert!(matches!(back, ChangeError::Epoch { .. }), "{back}");
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(epochs(&log), [(2, 0), (3, 120), (7, 240)]);
}

/// A deposed leader of a later epoch is cut, and follows one whose next frames are of an earlier
/// epoch: it led without anybody knowing its records.
#[test]
fn after_a_truncation_epochs_and_producers_are_those_of_what_is_left() {
    let mut random = fastrand::Rng::with_seed(4);
    let machine = Machine::new(1, small());
    let led = leader(&machine);
    let mut other = Machine::new(2, small());
    let (log, _) = other.open();
    let bytes = machine.read_all(&led, Offset(0));
    let run = run_of(whole_frames(&bytes, 150), &mut random).unwrap();
    log.append_replica(now(), &run).unwrap();
    other.write(&log);
    log.begin_epoch(LeaderEpoch(6)).unwrap();
    for sequence in [150, 160, 170] {
        let own = frame(sequence, Some(stamp(0, sequence as i32)));
        log.append(now(), &[own]).unwrap();
    }
    // They are on their way to the device while the truncation begins.
    other.tasks.spawn({
        let log = log.clone();
        async move { log.write_pending().await }
    });
    let cutter = log.clone();
    other
        .run(async move { cutter.truncate(Offset(150)).await })
        .unwrap();
    assert_eq!(log.ends().accepted, Offset(150));
    assert_eq!(epochs(&log), [(2, 0), (3, 120)]);
    let producers = log.producers();
    assert_eq!(producers[0].last.map(|last| last.0), Some(149));
    let run = sent(&machine, &led, 150, &mut random);
    log.append_replica(now(), &run).unwrap();
    other.write(&log);
    assert_same((&machine, &led), (&other, &log));
    drop(log);
    let (log, report) = other.restart();
    assert_eq!(report.damaged_at, None, "{report:?}");
    assert_same((&machine, &led), (&other, &log));
}

#[test]
fn power_goes_at_any_point_while_a_follower_stores() {
    let mut random = fastrand::Rng::with_seed(5);
    let machine = Machine::new(1, small());
    let led = leader(&machine);
    let bytes = machine.read_all(&led, Offset(0));
    let live = |other: &Machine, acked: &std::rc::Rc<std::cell::Cell<u64>>| {
        let (storage, settings) = (other.storage.clone(), other.settings.clone());
        let acked = std::rc::Rc::clone(acked);
        let (bytes, mut random) = (bytes.clone(), fastrand::Rng::with_seed(6));
        other.tasks.spawn(async move {
            let opened = storage.open_log(ID, settings, LeaderEpoch(0), now());
            let (log, _) = opened.await.unwrap();
            let mut at = 0;
            while at < bytes.len() {
                let records = [10, 20, 50][random.usize(..3)];
                let left = (360 - log.accepted_end().0).min(records);
                let part = whole_frames(&bytes[at..], left);
                at += part.len();
                let run = run_of(part, &mut random).unwrap();
                log.append_replica(now(), &run).unwrap();
                log.write_pending().await;
                acked.set(log.durable_end().0);
            }
        });
        other.tasks.run_until_stalled();
    };
    let whole = Machine::new(2, small());
    live(&whole, &std::rc::Rc::default());
    let points = whole.disk.io_points();
    assert!(points > 20, "{points}");
    for point in 0..points {
        let disk = MemoryDisk::new(2);
        let other = Machine::on(disk.clone(), 2, small(), 1);
        let acked = std::rc::Rc::default();
        disk.crash_after(point);
        live(&other, &acked);
        other.tasks.kill_all();
        let disk = disk.crash(&mut fastrand::Rng::with_seed(point));
        let other = Machine::on(disk, point, small(), 2);
        let (log, report) = other.open();
        assert_eq!(report.damaged_at, None, "point {point}: {report:?}");
        let end = log.durable_end().0;
        assert!(end >= acked.get(), "point {point}: lost");
        let stored = other.read_all(&log, Offset(0));
        assert!(bytes.starts_with(&stored), "point {point}: other bytes");
        if end < 360 {
            let run = sent(&machine, &led, end, &mut random);
            log.append_replica(now(), &run).unwrap();
            other.write(&log);
        }
        assert_same((&machine, &led), (&other, &log));
    }
}

fn reset(machine: &Machine, log: &MemoryLog, to: u64) -> Result<(), ChangeError> {
    let log = log.clone();
    machine.run(async move { log.reset(Offset(to)).await })
}

#[test]
fn a_log_starts_anew_above_its_end_and_below_its_start() {
    for to in [0, 7, 300, 361, 10_000] {
        let mut machine = Machine::new(1, small());
        let log = leader(&machine);
        let starter = log.clone();
        machine
            .run(async move { starter.set_log_start(Offset(250)).await })
            .unwrap();
        append(&log, 360);
        reset(&machine, &log, to).unwrap();
        let ends = log.ends();
        assert_eq!(
            [ends.start, ends.acknowledged, ends.accepted],
            [Offset(to); 3]
        );
        assert_eq!(epochs(&log), []);
        assert_eq!(log.producers(), []);
        assert_eq!(log.stats().disk_bytes, 0);
        // An earlier epoch than any that it had.
        log.begin_epoch(LeaderEpoch(1)).unwrap();
        machine.fill(&log, 30);
        for _ in 0..2 {
            let found = machine.records(&log, Offset(to));
            assert_eq!(found, expected(to..to + 300), "reset to {to}");
        }
        drop(log);
        let (log, report) = machine.restart();
        assert_eq!(report.damaged_at, None, "{report:?}");
        assert_eq!(
            (log.log_start(), log.durable_end().0),
            (Offset(to), to + 300)
        );
        assert_eq!(epochs(&log), [(1, to)]);
        assert_eq!(machine.records(&log, Offset(to)), expected(to..to + 300));
    }
}

#[test]
fn no_log_starts_where_offsets_end() {
    let machine = Machine::new(1, small());
    let log = leader(&machine);
    let refused = reset(&machine, &log, u64::MAX).unwrap_err();
    assert!(
        matches!(refused, ChangeError::OutOfRange { .. }),
        "{refused}"
    );
    assert_eq!(log.ends().accepted, Offset(360));
    append(&log, 360);
}

#[test]
fn power_goes_at_any_point_of_a_reset() {
    let (mut before, mut after) = (0, 0);
    for point in 0..60 {
        let machine = Machine::new(3, small());
        let (log, _) = machine.open();
        machine.fill(&log, 60);
        append(&log, 600);
        machine.disk.crash_after(point);
        machine
            .tasks
            .spawn(async move { log.reset(Offset(215)).await });
        machine.tasks.run_until_stalled();
        machine.tasks.kill_all();
        let disk = machine.disk.crash(&mut fastrand::Rng::with_seed(point));
        let mut machine = Machine::on(disk, point, small(), 2);
        let (log, report) = machine.open();
        assert_eq!(report.damaged_at, None, "point {point}: {report:?}");
        let ends = log.ends();
        match ends.accepted.0 {
            600 => {
                before += 1;
                assert_eq!(ends.start, Offset(0));
                assert_eq!(machine.records(&log, Offset(0)), expected(0..600));
            }
            _ => {
                after += 1;
                assert_eq!([ends.start, ends.accepted], [Offset(215); 2]);
                machine.fill(&log, 5);
                drop(log);
                let (log, _) = machine.restart();
                assert_eq!(machine.records(&log, Offset(215)), expected(215..265));
            }
        }
    }
    assert!(before > 3 && after > 10, "{before} before, {after} after");
}

#[test]
fn a_full_disk_is_no_obstacle_to_starting_anew() {
    let machine = Machine::new(4, small());
    let (log, _) = machine.open();
    machine.fill(&log, 40);
    let capacity = 60 << 10;
    machine.disk.set_capacity(Some(capacity));
    while log.latched().is_none() {
        append(&log, log.accepted_end().0);
        machine.write(&log);
    }
    machine.disk.set_capacity(Some(capacity + (16 << 10)));
    reset(&machine, &log, 1000).unwrap();
    assert_eq!(log.latched(), None);
    machine.fill(&log, 3);
    assert_eq!(machine.records(&log, Offset(1000)), expected(1000..1030));
}

#[test]
fn retention_keeps_what_is_not_committed() {
    let settings = millrace_model::TopicSettings {
        retention_bytes: Some(0),
        ..small()
    };
    let machine = Machine::new(5, settings);
    let (log, _) = machine.open();
    machine.fill(&log, 60);
    log.keep_from(Offset(0));
    let maintain = |log: &MemoryLog| {
        let log = log.clone();
        machine
            .run(async move { log.maintain(now()).await })
            .removed
    };
    assert_eq!(maintain(&log), 0);
    log.keep_from(Offset(600));
    assert!(maintain(&log) > 0);
}
