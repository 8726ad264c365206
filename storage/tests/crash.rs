//! A log under crashes, failing and full disks: what was acknowledged stays, nothing wrong
//! is ever served, and the log goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use millrace_model::{LeaderEpoch, Offset, Timestamp, TopicSettings};
use millrace_storage::Latch;
use millrace_storage::disk::memory::{MemoryDisk, Operation};
use std::cell::Cell;
use std::rc::Rc;
use support::{ID, Machine, append, expected, frame, now, small, stamp};

/// A life with all that a log does; notes what was acknowledged and where the log starts.
#[derive(Default)]
struct Witness {
    acked: Cell<u64>,
    start: Cell<u64>,
    asked_start: Cell<u64>,
    accepted: Cell<u64>,
}

fn busy_settings(caching: bool) -> TopicSettings {
    TopicSettings {
        segment_bytes: 6 << 10,
        retention_bytes: Some(20 << 10),
        write_caching: caching,
        flush_bytes: 3000,
        ..small()
    }
}

fn live(machine: &Machine, witness: &Rc<Witness>, rounds: u64) {
    let storage = machine.storage.clone();
    let (settings, epoch) = (machine.settings.clone(), LeaderEpoch(machine.epoch));
    let witness = Rc::clone(witness);
    machine.tasks.spawn(async move {
        let (log, report) = storage.open_log(ID, settings, epoch, now()).await.unwrap();
        assert_eq!(report.damaged_at, None, "{report:?}");
        for round in 0..rounds {
            for _ in 0..=round % 4 {
                append(&log, log.accepted_end().0);
                witness.accepted.set(log.accepted_end().0);
            }
            log.write_pending().await;
            witness.acked.set(log.durable_end().0);
            if round % 5 == 4 {
                log.maintain(Timestamp(now().0 + round as i64)).await;
                witness.start.set(log.log_start().0);
            }
            if round % 11 == 10 {
                let to = log
                    .durable_end()
                    .0
                    .saturating_sub(25)
                    .max(log.log_start().0);
                witness.asked_start.set(to);
                log.set_log_start(Offset(to)).await.unwrap();
                witness.start.set(log.log_start().0);
            }
        }
    });
    machine.tasks.run_until_stalled();
}

/// Opens the log after a crash, compares it with what the witness saw, and goes on.
fn check(machine: &mut Machine, witness: &Rc<Witness>, point: u64) {
    let (log, report) = machine.open();
    let context = format!("crash at point {point}: {report:?}");
    assert_eq!(report.damaged_at, None, "{context}");
    assert_eq!(log.latched(), None, "{context}");
    assert!(
        log.durable_end().0 >= witness.acked.get(),
        "lost, {context}"
    );
    assert!(
        log.durable_end().0 <= witness.accepted.get(),
        "invented, {context}"
    );
    assert!(
        log.log_start().0 >= witness.start.get(),
        "start went back, {context}"
    );
    let (start, end) = (log.log_start().0, log.durable_end().0);
    let read_from = start.next_multiple_of(10);
    assert_eq!(
        machine.records(&log, Offset(read_from)),
        expected(read_from..end),
        "{context}"
    );
    machine.fill(&log, 12);
    assert_eq!(
        machine.records(&log, Offset(end)),
        expected(end..end + 120),
        "{context}"
    );
}

fn crash_everywhere(caching: bool, step: u64) {
    let rounds = 24;
    let whole = Machine::new(1, busy_settings(caching));
    live(&whole, &Rc::default(), rounds);
    let points = whole.disk.io_points();
    assert!(points > 300, "{points}");
    for point in (0..points).step_by(step as usize) {
        let disk = MemoryDisk::new(1);
        disk.crash_after(point);
        let machine = Machine::on(disk.clone(), 1, busy_settings(caching), 1);
        let witness = Rc::default();
        live(&machine, &witness, rounds);
        machine.tasks.kill_all();
        let after = disk.crash(&mut fastrand::Rng::with_seed(point));
        let mut machine = Machine::on(after, point, busy_settings(caching), 2);
        check(&mut machine, &witness, point);
    }
}

#[test]
fn power_goes_at_any_io_point() {
    crash_everywhere(false, 1);
}

#[test]
fn power_goes_at_any_io_point_with_cached_writes() {
    crash_everywhere(true, 2);
}

#[test]
fn power_goes_again_during_recovery() {
    for seed in 0..150 {
        let disk = MemoryDisk::new(seed);
        disk.crash_after(200 + seed * 3);
        let machine = Machine::on(disk.clone(), seed, busy_settings(seed % 2 == 0), 1);
        let witness = Rc::default();
        live(&machine, &witness, 60);
        machine.tasks.kill_all();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut disk = disk.crash(&mut rng);
        for life in 2..5 {
            disk.crash_after(rng.u64(0..40));
            let machine = Machine::on(disk.clone(), seed, busy_settings(false), life);
            live(&machine, &witness, 3);
            machine.tasks.kill_all();
            disk = disk.crash(&mut rng);
        }
        let mut machine = Machine::on(disk, seed, busy_settings(false), 9);
        check(&mut machine, &witness, seed);
    }
}

#[test]
fn power_goes_during_truncation() {
    for point in 0..120 {
        let machine = Machine::new(3, small());
        let (log, _) = machine.open();
        machine.fill(&log, 60);
        machine.disk.crash_after(point);
        machine
            .tasks
            .spawn(async move { log.truncate(Offset(215)).await });
        machine.tasks.run_until_stalled();
        machine.tasks.kill_all();
        let disk = machine.disk.crash(&mut fastrand::Rng::with_seed(point));
        let machine = Machine::on(disk, point, small(), 2);
        let (log, report) = machine.open();
        assert_eq!(report.damaged_at, None, "point {point}: {report:?}");
        let end = log.durable_end().0;
        assert!(
            [210, 600].contains(&end),
            "point {point}: half a truncation, end {end}"
        );
        assert_eq!(machine.records(&log, Offset(0)), expected(0..end));
    }
}

#[test]
fn a_full_disk_refuses_and_heals() {
    for capacity in (30..60).map(|n| n * 1024) {
        let mut machine = Machine::new(
            4,
            TopicSettings {
                segment_bytes: 6 << 10,
                ..small()
            },
        );
        machine.disk.set_capacity(Some(capacity));
        let (log, _) = machine.open();
        let (mut time, mut sequence, mut refused) = (now().0, 0, 0);
        for round in 0..200 {
            time += 300;
            if round == 150 {
                machine.disk.set_capacity(None);
            }
            let before = log.durable_end();
            let stamped = frame(log.accepted_end().0, Some(stamp(0, sequence)));
            if log.append(Timestamp(time), &[stamped]).is_ok() {
                machine.write(&log);
            }
            if log.durable_end() > before {
                sequence += 10;
            } else {
                refused += 1;
                assert_eq!(log.latched(), Some(Latch::Full));
                assert_eq!(log.accepted_end(), before, "nothing of the failure is left");
            }
        }
        assert!((1..190).contains(&refused), "{refused}");
        assert_eq!(log.latched(), None);
        let end = log.durable_end().0;
        assert_eq!(end, sequence as u64);
        assert_eq!(machine.records(&log, Offset(0)), expected(0..end));
        drop(log);
        let (log, report) = machine.restart();
        assert_eq!(report.damaged_at, None, "{report:?}");
        assert_eq!(machine.records(&log, Offset(0)), expected(0..end));
    }
}

#[test]
fn a_full_disk_keeps_what_was_acknowledged_from_memory() {
    let settings = TopicSettings {
        write_caching: true,
        ..small()
    };
    let mut machine = Machine::new(5, settings);
    machine.disk.set_capacity(Some(40 << 10));
    let (log, _) = machine.open();
    let mut time = now().0;
    while log.latched().is_none() {
        append(&log, log.accepted_end().0);
        machine.write(&log);
    }
    let acked = log.ack_end();
    assert!(log.durable_end() < acked);
    machine.disk.set_capacity(None);
    time += 5_000;
    let keeper = log.clone();
    machine.run(async move { keeper.maintain(Timestamp(time)).await });
    assert_eq!(log.latched(), None);
    let flusher = log.clone();
    machine.run(async move { flusher.flush().await }).unwrap();
    assert_eq!(log.durable_end(), acked);
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(machine.records(&log, Offset(0)), expected(0..acked.0));
}

#[test]
fn a_failed_write_latches_until_restart() {
    for after in 0..40 {
        let mut machine = Machine::new(6, busy_settings(false));
        let (log, _) = machine.open();
        machine.disk.fail(Operation::Write, after);
        let mut acked = 0;
        for _ in 0..60 {
            if log
                .append(now(), &[frame(log.accepted_end().0, None)])
                .is_ok()
            {
                machine.write(&log);
            }
            acked = acked.max(log.ack_end().0);
        }
        assert!(matches!(log.latched(), Some(Latch::Failed(_))));
        assert_eq!((log.accepted_end().0, log.next_deadline()), (acked, None));
        assert_eq!(machine.records(&log, Offset(0)), expected(0..acked));
        drop(log);
        let (log, report) = machine.restart();
        assert_eq!((report.damaged_at, log.latched()), (None, None));
        assert!(log.durable_end().0 >= acked);
        let end = log.durable_end().0;
        assert_eq!(machine.records(&log, Offset(0)), expected(0..end));
    }
}

/// Turns one bit in every byte of every file, one at a time. Whatever is served is right;
/// what is missing is reported, except in the very last write, whose loss cannot be told
/// from a write that never was.
#[test]
fn any_rotten_byte_is_noticed() {
    let settings = TopicSettings {
        segment_bytes: 5 << 10,
        ..small()
    };
    let machine = Machine::new(7, settings.clone());
    let (log, _) = machine.open();
    machine.fill(&log, 12);
    let mover = log.clone();
    machine
        .run(async move { mover.set_log_start(Offset(5)).await })
        .unwrap();
    let end = log.durable_end().0;
    drop(log);
    machine.disk.record();
    let files = machine.disk.files("/data".as_ref());
    assert!(files.len() >= 3, "{files:?}");
    for (path, len) in files {
        for byte in (0..len).step_by(3) {
            let disk = machine.disk.prefix(0, byte);
            disk.flip(&path, byte, (byte % 8) as u8).unwrap();
            let machine = Machine::on(disk, 7, settings.clone(), 2);
            let (log, _) = machine.open();
            let context = format!("{} byte {byte}", path.display());
            read_what_is_right(&machine, &log, end, &context);
        }
    }
}

fn read_what_is_right(
    machine: &Machine,
    log: &millrace_storage::Log<MemoryDisk>,
    end: u64,
    context: &str,
) {
    assert_eq!(log.log_start().0, 5, "{context}");
    let reader = log.clone();
    let (bytes, complete) = machine.run(async move {
        let (mut at, mut bytes) = (Offset(5), Vec::new());
        while at < Offset(end) {
            let Ok(runs) = reader.read(at, 500, Offset(u64::MAX)).await else {
                return (bytes, false);
            };
            let Some(last) = runs.last() else {
                return (bytes, false);
            };
            runs.iter()
                .for_each(|run| bytes.extend_from_slice(run.as_bytes()));
            at = last.next;
        }
        (bytes, true)
    });
    let records = support::records_in(&bytes);
    let read_to = records.last().map_or(0, |(offset, _)| offset + 1);
    assert_eq!(records, expected(0..read_to), "{context}");
    let last_write = end - 10;
    let told = log.latched().is_some() || read_to >= last_write || log.durable_end().0 == end;
    assert!(
        complete || told,
        "{context}: {read_to} of {end}, and nobody is told"
    );
}
