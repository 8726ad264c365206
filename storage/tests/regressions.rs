//! What the simulator has found, each as the shortest life that shows it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use millrace_model::{Offset, Timestamp, TopicSettings};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::{ChangeError, Latch, Log};
use std::path::PathBuf;
use std::rc::Rc;
use support::{ID, Machine, append, expected, frame, now, small, stamp};

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/data/logs/{ID}/{name}"))
}

fn truncate(machine: &Machine, log: &Log<MemoryDisk>, to: u64) -> Result<(), ChangeError> {
    let log = log.clone();
    machine.run(async move { log.truncate(Offset(to)).await })
}

fn set_log_start(machine: &Machine, log: &Log<MemoryDisk>, to: u64) {
    let log = log.clone();
    machine
        .run(async move { log.set_log_start(Offset(to)).await })
        .unwrap();
}

fn with_caching() -> TopicSettings {
    TopicSettings {
        write_caching: true,
        ..small()
    }
}

/// The process ends inside of a truncation; the next one goes on; then the power goes, or a
/// copy of log-start rots. The truncation must not happen again.
#[test]
fn a_truncation_that_was_taken_back_stays_taken_back() {
    for point in 0..90 {
        let machine = Machine::new(3, small());
        let (log, _) = machine.open();
        machine.fill(&log, 60);
        machine.disk.crash_after(point);
        machine
            .tasks
            .spawn(async move { log.truncate(Offset(210)).await });
        machine.tasks.run_until_stalled();
        machine.tasks.kill_all();
        let mut rng = fastrand::Rng::with_seed(point);
        let machine = Machine::on(machine.disk.kill(&mut rng), point, small(), 2);
        let (log, _) = machine.open();
        machine.fill(&log, 5);
        let end = log.durable_end().0;
        drop(log);
        let disk = machine.disk.crash(&mut rng);
        if point % 2 == 0 && disk.content(&path("log-start")).is_ok() {
            disk.flip(&path("log-start"), 24, 1).unwrap();
        }
        let machine = Machine::on(disk, point, small(), 3);
        let (log, report) = machine.open();
        assert_eq!(log.durable_end().0, end, "point {point}: {report:?}");
        let (found, kept) = (machine.records(&log, Offset(0)), expected(0..end));
        assert_eq!(found, kept, "point {point}");
    }
}

/// Rot below the place of a truncation, in the last write too: it refuses, or nothing is
/// missing.
#[test]
fn a_truncation_hides_no_damage_below_its_place() {
    let segment = path("00000000000000000000.log");
    let mut refused = 0;
    for at in 0..100 {
        let mut machine = Machine::new(3, small());
        let (log, _) = machine.open();
        machine.fill(&log, 5);
        append(&log, 50);
        append(&log, 60);
        machine.write(&log);
        let len = machine.disk.content(&segment).unwrap().len() as u64;
        let byte = at * len / 100;
        machine.disk.flip(&segment, byte, 3).unwrap();
        let truncated = truncate(&machine, &log, 60);
        if truncated.is_ok() {
            assert_eq!(log.accepted_end(), Offset(60), "byte {byte}");
        } else {
            refused += 1;
            let damaged = matches!(log.latched(), Some(Latch::Damaged { .. }));
            assert!(damaged, "byte {byte}: {truncated:?}");
            machine.disk.flip(&segment, byte, 3).unwrap();
        }
        drop(log);
        let (log, _) = machine.restart();
        assert_eq!(log.latched(), None, "byte {byte}");
        assert_eq!(machine.records(&log, Offset(0)), expected(0..60));
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn what_a_truncation_leaves_is_durable() {
    for to in [30, 20] {
        let machine = Machine::new(3, with_caching());
        let (log, _) = machine.open();
        machine.fill(&log, 3);
        assert_eq!(log.durable_end(), Offset(0));
        truncate(&machine, &log, to).unwrap();
        assert_eq!(log.durable_end(), Offset(to));
    }
}

/// Two writes after `write.caching` was switched off: the second vouches for the first,
/// which was made durable after it was submitted.
#[test]
fn a_write_vouches_for_what_was_synced_before_it() {
    let mut machine = Machine::new(3, with_caching());
    let (log, _) = machine.open();
    machine.fill(&log, 2);
    log.apply_settings(Rc::new(small()));
    machine.fill(&log, 1);
    assert_eq!(log.durable_end(), Offset(30));
    drop(log);
    let segment = path("00000000000000000000.log");
    // Inside of the first write.
    machine.disk.flip(&segment, 200, 0).unwrap();
    let (log, report) = machine.restart();
    assert_eq!(report.damaged_at, Some(Offset(0)), "{report:?}");
    drop(log);
    machine.disk.flip(&segment, 200, 0).unwrap();
    // Inside of the second write, which the third was synced before.
    let second = machine.disk.content(&segment).unwrap();
    let header = |at: &usize| second[*at..].starts_with(b"MRW1");
    let second = (16..second.len()).step_by(16).find(header).unwrap();
    machine.disk.flip(&segment, second as u64 + 200, 0).unwrap();
    let (_, report) = machine.restart();
    assert_eq!(report.damaged_at, Some(Offset(10)), "{report:?}");
}

/// The power goes at each point of moving the log start over whole segments. Then a
/// truncation takes all that is left, and a repeated batch must still be known.
#[test]
fn producers_below_the_log_start_stay_known() {
    for point in 0..70 {
        let machine = Machine::new(3, small());
        let (log, _) = machine.open();
        for base in (0..600).step_by(10) {
            let batch = frame(base, Some(stamp(0, base as i32)));
            log.append(now(), &[batch]).unwrap();
            machine.write(&log);
        }
        let start = end_of_first_segment(&machine);
        machine.disk.crash_after(point);
        let mover = log.clone();
        machine
            .tasks
            .spawn(async move { mover.set_log_start(Offset(start)).await });
        machine.tasks.run_until_stalled();
        machine.tasks.kill_all();
        drop(log);
        let disk = machine.disk.crash(&mut fastrand::Rng::with_seed(point));
        let machine = Machine::on(disk, point, small(), 2);
        let (log, _) = machine.open();
        set_log_start(&machine, &log, start);
        truncate(&machine, &log, start).unwrap();
        let last = start - 10;
        let again = frame(last, Some(stamp(0, last as i32)));
        let again = log.append(now(), &[again]).unwrap();
        assert!(again.duplicate, "point {point}: {again:?}");
        assert_eq!(again.base_offset, Offset(last), "point {point}");
    }
}

fn end_of_first_segment(machine: &Machine) -> u64 {
    let second = machine.disk.files(&path(""))[1].0.clone();
    let name = second.file_stem().unwrap().to_str().unwrap().to_owned();
    name.parse().unwrap()
}

/// The log start moves into a segment while a reader meets damage below it.
#[test]
fn a_read_of_damage_below_the_log_start_ends() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed, small());
        let (log, _) = machine.open();
        machine.fill(&log, 60);
        drop(log);
        let segment = path("00000000000000000000.log");
        machine.disk.flip(&segment, 200, 0).unwrap();
        let (log, _) = machine.restart();
        let reader = log.clone();
        let read = machine.tasks.spawn(async move {
            let read = reader.read(Offset(0), 100, Offset(u64::MAX)).await;
            assert!(read.is_err());
        });
        set_log_start(&machine, &log, 20);
        machine.run(read);
        append(&log, log.accepted_end().0);
    }
}

/// Rot in the last write of a log that was closed in good order: it refuses, for the header
/// behind that write vouches for it. Appends go on behind the header.
#[test]
fn a_closed_log_tells_damage_to_its_last_write_from_a_torn_one() {
    let machine = Machine::new(3, small());
    let (log, _) = machine.open();
    machine.fill(&log, 1);
    let file = path("00000000000000000000.log");
    let close = |log: &Log<MemoryDisk>| {
        let log = log.clone();
        machine.run(async move { log.vouch().await }).unwrap();
    };
    close(&log);
    let closed = machine.disk.content(&file).unwrap();
    close(&log);
    let again = machine.disk.content(&file).unwrap();
    assert!(closed == again, "a second close writes nothing");
    drop(log);

    let whole = Machine::on(machine.disk.clone(), 4, small(), 2);
    let (log, report) = whole.open();
    assert!(log.latched().is_none(), "{report:?}");
    let end = log.durable_end().0;
    assert_eq!(whole.records(&log, Offset(0)), expected(0..end));
    drop(log);

    machine.disk.flip(&file, 200, 1).unwrap();
    let damaged = Machine::on(machine.disk.clone(), 5, small(), 3);
    let (log, report) = damaged.open();
    assert!(
        matches!(log.latched(), Some(Latch::Damaged { .. })),
        "{report:?}"
    );
}

#[test]
fn appends_go_on_behind_a_close() {
    let machine = Machine::new(3, small());
    let (log, _) = machine.open();
    for _ in 0..20 {
        machine.fill(&log, 2);
        let log = log.clone();
        machine.run(async move { log.vouch().await }).unwrap();
    }
    let end = log.durable_end().0;
    drop(log);
    let machine = Machine::on(machine.disk, 4, small(), 2);
    let (log, report) = machine.open();
    assert_eq!(log.durable_end().0, end, "{report:?}");
    assert_eq!(machine.records(&log, Offset(0)), expected(0..end));
}

/// Two who keep a log in order find the same segments expired; the second finds them gone.
#[test]
fn segments_that_expire_are_removed_once_whoever_looks() {
    for seed in 0..20 {
        let settings = TopicSettings {
            retention_ms: Some(10),
            ..small()
        };
        let machine = Machine::new(seed, settings);
        let (log, _) = machine.open();
        machine.fill(&log, 100);
        let later = Timestamp(now().0 + 60_000);
        let keepers = [log.clone(), log.clone(), log.clone()].map(|keeper| {
            machine
                .tasks
                .spawn(async move { keeper.maintain(later).await })
        });
        let mut removed = 0;
        for keeper in keepers {
            removed += machine.run(keeper).removed;
        }
        assert!(removed > 1, "{removed}");
        assert_eq!(log.log_start(), Offset(1000));
    }
}
