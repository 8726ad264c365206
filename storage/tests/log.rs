//! A log in quiet times: append, write, read, restart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use millrace_model::{ErrorCode, Offset, Timestamp, TopicSettings};
use support::{ID, Machine, append, batch, expected, frame, now, small, stamp};

#[test]
fn what_is_written_is_read_back_and_survives_a_restart() {
    let mut machine = Machine::new(1, small());
    let (log, report) = machine.open();
    assert_eq!(report, Default::default());
    machine.fill(&log, 200);
    assert_eq!(
        (log.durable_end(), log.readable_end()),
        (Offset(2000), Offset(2000))
    );
    assert!(log.stats().segments > 5, "{:?}", log.stats());
    assert_eq!(machine.records(&log, Offset(0)), expected(0..2000));
    drop(log);
    let (log, report) = machine.restart();
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(log.durable_end(), Offset(2000));
    assert_eq!(machine.records(&log, Offset(0)), expected(0..2000));
    machine.fill(&log, 50);
    assert_eq!(machine.records(&log, Offset(1990)), expected(1990..2500));
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let machine = Machine::new(2, small());
    let (log, _) = machine.open();
    let appended = append(&log, 0);
    assert_eq!(
        (appended.base_offset, appended.next_offset),
        (Offset(0), Offset(10))
    );
    assert!(log.wants_writer());
    assert_eq!(
        (log.accepted_end(), log.ack_end(), log.readable_end()),
        (Offset(10), Offset(0), Offset(0))
    );
    let changed = log.changed();
    machine.write(&log);
    machine.run(changed);
    assert_eq!(
        (log.ack_end(), log.readable_end()),
        (Offset(10), Offset(10))
    );
    assert!(!log.wants_writer());
}

#[test]
fn a_group_forms_while_a_write_is_in_flight() {
    let machine = Machine::new(3, TopicSettings::default());
    let (log, _) = machine.open();
    for n in 0..500 {
        append(&log, n * 10);
        if n % 50 == 0 && log.wants_writer() {
            let log = log.clone();
            machine
                .tasks
                .spawn(async move { log.write_pending().await });
        }
    }
    machine.tasks.run_until_stalled();
    machine.write(&log);
    assert_eq!(machine.records(&log, Offset(0)), expected(0..5000));
}

#[test]
fn reads_begin_at_the_frame_and_end_below_the_bound() {
    let machine = Machine::new(4, small());
    let (log, _) = machine.open();
    machine.fill(&log, 100);
    let reader = log.clone();
    machine.run(async move {
        let runs = reader.read(Offset(25), 1, Offset(1000)).await.unwrap();
        assert_eq!(
            (runs.len(), runs[0].base, runs[0].next),
            (1, Offset(20), Offset(30))
        );
        assert!(
            reader
                .read(Offset(20), 1, Offset(29))
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            reader
                .read(Offset(1000), 1, Offset(2000))
                .await
                .unwrap()
                .is_empty()
        );
        let error = reader
            .read(Offset(1001), 1, Offset(2000))
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
        let runs = reader.read(Offset(0), 1 << 20, Offset(500)).await.unwrap();
        assert!(runs.last().unwrap().next <= Offset(500));
    });
}

#[test]
fn refusals_leave_no_trace() {
    let machine = Machine::new(5, small());
    let (log, _) = machine.open();
    let good = frame(0, None);
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    bad[90] ^= 1;
    for (bytes, code) in [
        (bad, ErrorCode::CorruptMessage),
        (good[..50].to_vec(), ErrorCode::CorruptMessage),
        (good[..good.len() - 16].to_vec(), ErrorCode::CorruptMessage),
        (vec![0; 4096], ErrorCode::CorruptMessage),
    ] {
        let error = log.append(now(), &[bytes.into()]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!((log.accepted_end(), log.wants_writer()), (Offset(0), false));
    }
    append(&log, 0);
    machine.write(&log);
    assert_eq!(machine.records(&log, Offset(0)), expected(0..10));
}

#[test]
fn a_repeated_batch_is_recognised_also_after_a_restart() {
    let mut machine = Machine::new(6, small());
    let (log, _) = machine.open();
    for n in 0..30 {
        let appended = log
            .append(now(), &[frame(n * 10, Some(stamp(0, n as i32 * 10)))])
            .unwrap();
        assert!(!appended.duplicate);
        machine.write(&log);
    }
    let check = |log: &millrace_storage::Log<_>| {
        let again = log.append(now(), &[frame(0, Some(stamp(0, 270)))]).unwrap();
        assert_eq!((again.duplicate, again.base_offset), (true, Offset(270)));
        let gap = log
            .append(now(), &[frame(0, Some(stamp(0, 310)))])
            .unwrap_err();
        assert_eq!(gap.code(), ErrorCode::OutOfOrderSequenceNumber);
        let old = log
            .append(now(), &[frame(0, Some(stamp(0, 0)))])
            .unwrap_err();
        assert_eq!(old.code(), ErrorCode::DuplicateSequenceNumber);
    };
    check(&log);
    drop(log);
    let (log, _) = machine.restart();
    check(&log);
}

#[test]
fn timestamps_lead_to_the_record() {
    let mut machine = Machine::new(7, small());
    let (log, _) = machine.open();
    machine.fill(&log, 100);
    drop(log);
    let (log, _) = machine.restart();
    for (timestamp, found) in [
        (0, Some(0)),
        (900_457, Some(457)),
        (900_999, Some(999)),
        (901_000, None),
    ] {
        let log = log.clone();
        let result = machine.run(async move { log.find_timestamp(Timestamp(timestamp)).await });
        assert_eq!(
            result.unwrap().map(|(offset, _)| offset.0),
            found,
            "{timestamp}"
        );
    }
}

#[test]
fn the_log_start_moves_and_stays() {
    let mut machine = Machine::new(8, small());
    let (log, _) = machine.open();
    machine.fill(&log, 100);
    let segments = log.stats().segments;
    let mover = log.clone();
    let start = machine
        .run(async move { mover.set_log_start(Offset(555)).await })
        .unwrap();
    assert_eq!(start, Offset(555));
    assert!(log.stats().segments < segments);
    machine.fill(&log, 10);
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(log.log_start(), Offset(555));
    assert_eq!(machine.records(&log, Offset(560)), expected(560..1100));
    let reader = log.clone();
    let error = machine
        .run(async move { reader.read(Offset(554), 1, Offset(2000)).await })
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::OffsetOutOfRange);
}

#[test]
fn retention_removes_all_and_the_offsets_go_on() {
    let settings = TopicSettings {
        retention_ms: Some(1000),
        ..small()
    };
    let mut machine = Machine::new(9, settings);
    let (log, _) = machine.open();
    log.append(now(), &[frame(0, Some(stamp(0, 0)))]).unwrap();
    machine.write(&log);
    machine.fill(&log, 50);
    assert!(log.next_deadline().is_some());
    let keeper = log.clone();
    let done = machine.run(async move { keeper.maintain(Timestamp(2_000_000)).await });
    assert!(done.sealed == 1 && done.removed > 1, "{done:?}");
    assert_eq!((log.log_start(), log.stats().segments), (Offset(510), 0));
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(
        (log.log_start(), log.accepted_end()),
        (Offset(510), Offset(510))
    );
    let again = log.append(now(), &[frame(0, Some(stamp(0, 0)))]).unwrap();
    assert!(again.duplicate, "producer state outlives the segments");
    machine.fill(&log, 5);
    assert_eq!(machine.records(&log, Offset(510)), expected(510..560));
}

#[test]
fn recycled_files_serve_again() {
    let settings = TopicSettings {
        retention_bytes: Some(32 << 10),
        ..small()
    };
    let mut machine = Machine::new(10, settings);
    let (log, _) = machine.open();
    for _ in 0..40 {
        machine.fill(&log, 20);
        let keeper = log.clone();
        machine.run(async move { keeper.maintain(now()).await });
    }
    assert!(log.log_start() > Offset(0));
    assert!(machine.storage.stats().recycled_bytes > 0);
    let start = log.log_start();
    assert_eq!(machine.records(&log, start), expected(start.0..8000));
    drop(log);
    let (log, report) = machine.restart();
    assert_eq!(report.damaged_at, None);
    assert_eq!(machine.records(&log, start), expected(start.0..8000));
}

#[test]
fn truncation_takes_whole_frames_and_segments_away() {
    for (to, left) in [(995, 990), (500, 500), (15, 10), (0, 0), (1000, 1000)] {
        let mut machine = Machine::new(11, small());
        let (log, _) = machine.open();
        machine.fill(&log, 100);
        let cutter = log.clone();
        machine
            .run(async move { cutter.truncate(Offset(to)).await })
            .unwrap();
        assert_eq!(log.accepted_end(), Offset(left), "to {to}");
        machine.fill(&log, 3);
        assert_eq!(machine.records(&log, Offset(0)), expected(0..left + 30));
        drop(log);
        let (log, _) = machine.restart();
        assert_eq!(machine.records(&log, Offset(0)), expected(0..left + 30));
    }
}

#[test]
fn cached_writes_are_acknowledged_at_once_and_flushed_when_due() {
    let settings = TopicSettings {
        write_caching: true,
        flush_ms: 50,
        ..small()
    };
    let mut machine = Machine::new(12, settings);
    let (log, _) = machine.open();
    append(&log, 0);
    assert_eq!((log.ack_end(), log.durable_end()), (Offset(10), Offset(0)));
    machine.write(&log);
    assert_eq!(
        (log.readable_end(), log.durable_end()),
        (Offset(10), Offset(0))
    );
    let due = log.next_deadline().unwrap();
    assert_eq!(due, Timestamp(now().0 + 50));
    let keeper = log.clone();
    assert!(
        machine
            .run(async move { keeper.maintain(due).await })
            .flushed
    );
    assert_eq!(log.durable_end(), Offset(10));
    machine.fill(&log, 100);
    let flusher = log.clone();
    machine.run(async move { flusher.flush().await }).unwrap();
    assert_eq!(log.durable_end(), Offset(1010));
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(machine.records(&log, Offset(0)), expected(0..1010));
}

#[test]
fn logs_are_listed_and_removed() {
    let machine = Machine::new(13, small());
    let (log, _) = machine.open();
    machine.fill(&log, 5);
    let storage = machine.storage.clone();
    machine.run(async move {
        assert_eq!(storage.directories().await.unwrap(), [ID]);
        storage.remove_log(ID).await.unwrap();
        assert!(storage.directories().await.unwrap().is_empty());
    });
    let error = log.append(now(), &[frame(0, None)]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
}

#[test]
fn epochs_tell_where_each_life_ended() {
    let mut machine = Machine::new(14, small());
    let (log, _) = machine.open();
    machine.fill(&log, 30);
    drop(log);
    let (log, _) = machine.restart();
    machine.fill(&log, 30);
    drop(log);
    let (log, _) = machine.restart();
    use millrace_model::LeaderEpoch;
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(1)),
        (LeaderEpoch(1), Offset(300))
    );
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(9)),
        (LeaderEpoch(2), Offset(600))
    );
}

#[test]
fn an_idle_log_gives_its_memory_back_and_reads_from_files() {
    let machine = Machine::new(15, small());
    let (log, _) = machine.open();
    machine.fill(&log, 20);
    let keeper = log.clone();
    let done = machine.run(async move { keeper.maintain(Timestamp(now().0 + 60_000)).await });
    assert!(done.released > 0);
    assert!(log.stats().memory_bytes < 12 << 10, "{:?}", log.stats());
    assert_eq!(machine.records(&log, Offset(0)), expected(0..200));
}

#[test]
fn batches_without_frames_are_appended_beside_frames_and_read_back_the_same() {
    let mut machine = Machine::new(40, small());
    let (log, _) = machine.open();
    for n in 0..200 {
        let base = log.accepted_end().0;
        assert_eq!(base, n * 10);
        if n % 3 == 0 {
            append(&log, base);
        } else {
            let batch = batch(base, None);
            let (head, rest) = (batch.slice(..61), batch.slice(61..));
            let appended = log.append_batch(now(), &[head, rest]).unwrap();
            assert_eq!(appended.base_offset, Offset(base));
        }
        machine.write(&log);
    }
    assert!(log.stats().segments > 5, "{:?}", log.stats());
    assert_eq!(machine.records(&log, Offset(0)), expected(0..2000));
    drop(log);
    let (log, _) = machine.restart();
    assert_eq!(machine.records(&log, Offset(0)), expected(0..2000));
    let reader = log.clone();
    machine.run(async move {
        let mut next = 0;
        while next < 2000 {
            let runs = reader.read(Offset(next), 5000, Offset(2000)).await.unwrap();
            for run in runs {
                for range in run.batches() {
                    let sent = batch(next, None);
                    let stored = &run.as_bytes()[range];
                    assert_eq!(stored[..8], next.to_be_bytes());
                    // All but the base offset and the leader epoch.
                    assert_eq!((&stored[8..12], &stored[16..]), (&sent[8..12], &sent[16..]));
                    next += 10;
                }
                assert_eq!(run.next, Offset(next));
            }
        }
    });
}

#[test]
fn a_batch_that_is_sent_again_is_recognised_and_one_that_is_refused_leaves_no_trace() {
    let machine = Machine::new(41, small());
    let (log, _) = machine.open();
    let first = batch(0, Some(stamp(0, 0)));
    let appended = log
        .append_batch(now(), std::slice::from_ref(&first))
        .unwrap();
    machine.write(&log);
    let again = log
        .append_batch(now(), std::slice::from_ref(&first))
        .unwrap();
    assert!(again.duplicate && again.base_offset == appended.base_offset);
    let mut damaged = first.to_vec();
    damaged[70] ^= 1;
    let refused = log.append_batch(now(), &[damaged.into()]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CorruptMessage);
    let gap = log.append_batch(now(), &[batch(0, Some(stamp(0, 30)))]);
    assert_eq!(gap.unwrap_err().code(), ErrorCode::OutOfOrderSequenceNumber);
    let two = [first.clone(), first];
    assert_eq!(
        log.append_batch(now(), &two).unwrap_err().code(),
        ErrorCode::CorruptMessage
    );
    assert_eq!(log.accepted_end(), Offset(10));
    assert!(!log.wants_writer());
}
