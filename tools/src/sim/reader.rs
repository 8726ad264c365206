//! Readers: at random offsets, while everything else goes on.

use millrace_model::{Offset, Timestamp};
use millrace_storage::{Latch, ReadError};

use super::trace::{Violation, ensure};
use super::world::{Subject, trace};

/// Reads `times` times at random places.
pub(super) async fn run(subject: &Subject, times: u64) -> Result<(), Violation> {
    for _ in 0..times {
        subject.world.pause().await;
        subject.observe()?;
        match subject.world.below(8) {
            0 => out_of_range(subject).await?,
            1 => timestamps(subject).await?,
            _ => somewhere(subject).await?,
        }
    }
    Ok(())
}

/// Reads everything from the start to the end, in pieces.
pub(super) async fn read_all(subject: &Subject) -> Result<(), Violation> {
    let end = subject.log.readable_end();
    let mut at = subject.log.log_start();
    let max_bytes = 1 + subject.world.below(40_000) as usize;
    while at < end {
        match piece(subject, at, max_bytes).await? {
            Some(next) => at = next,
            None => break,
        }
    }
    trace!(subject.world, "{} read all up to {at}", subject.name);
    Ok(())
}

/// Shows the ledger everything from `from` to the end of a log that was just opened. False
/// if the disk does not let it.
pub(super) async fn adopt(subject: &Subject, from: Offset) -> Result<bool, Violation> {
    let (mut at, end) = (from, subject.log.accepted_end());
    while at < end {
        match subject.log.read(at, 30_000, end).await {
            Ok(runs) => {
                ensure!(
                    !runs.is_empty(),
                    "a log that ends at {end} holds nothing at {at}"
                );
                for run in &runs {
                    ensure!(
                        run.base == at,
                        "a run begins at {}, {at} must follow",
                        run.base
                    );
                    subject.ledger.borrow_mut().adopt(run.as_bytes())?;
                    at = run.next;
                }
            }
            Err(error) => {
                excuse(subject, &error, at, false)?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn somewhere(subject: &Subject) -> Result<(), Violation> {
    let (start, end) = (subject.log.log_start(), subject.log.readable_end());
    if start >= end {
        return Ok(());
    }
    let mut at = start.plus(subject.world.below(end.0 - start.0));
    let max_bytes = subject.world.below(50_000) as usize;
    for _ in 0..=subject.world.below(3) {
        match piece(subject, at, max_bytes).await? {
            Some(next) if next < subject.log.readable_end() => at = next,
            _ => break,
        }
    }
    Ok(())
}

/// One read and all its checks. The offset to go on at, or nothing when the log has
/// changed so much meanwhile that the place is gone, or is damaged there.
async fn piece(
    subject: &Subject,
    from: Offset,
    max_bytes: usize,
) -> Result<Option<Offset>, Violation> {
    let below = subject.log.ack_end();
    let cuts = subject.ledger.borrow().cuts();
    let read = subject.log.read(from, max_bytes, below).await;
    subject.observe()?;
    let changed = subject.ledger.borrow().cuts() != cuts || subject.is_truncating();
    let runs = match read {
        Ok(runs) => runs,
        Err(error) => {
            excuse(subject, &error, from, changed)?;
            return Ok(None);
        }
    };
    if changed {
        return Ok(None);
    }
    let ledger = subject.ledger.borrow();
    let base = ledger.batch_with(from.0);
    ensure!(
        runs.first().map(|run| run.base.0) == base,
        "a read of {from} begins elsewhere"
    );
    let mut at = base.unwrap_or(from.0);
    let (mut bytes, mut frames) = (0, 0);
    for run in &runs {
        ensure!(
            run.base.0 == at,
            "a run begins at {}, {at} must follow",
            run.base
        );
        frames += ledger.check_run(run.as_bytes(), run.base.0, run.next.0)?;
        bytes += run.as_bytes().len();
        at = run.next.0;
    }
    ensure!(at <= below.0, "read up to {at}, only {below} was allowed");
    ensure!(
        bytes <= max_bytes || frames == 1,
        "{bytes} bytes in {frames} frames: over {max_bytes}"
    );
    drop(ledger);
    if !subject.cached.get() {
        subject.ledger.borrow_mut().promised(at);
    }
    trace!(subject.world, "{} read {from} to {at}", subject.name);
    Ok(Some(Offset(at)))
}

fn excuse(
    subject: &Subject,
    error: &ReadError,
    from: Offset,
    changed: bool,
) -> Result<(), Violation> {
    trace!(subject.world, "{} read of {from}: {error}", subject.name);
    let fine = match error {
        ReadError::OutOfRange { .. } => changed || from < subject.log.log_start(),
        ReadError::Damaged { .. } => changed || subject.ledger.borrow().is_rotten(),
        // A segment was removed, and the disk failed before that was durable: the log is
        // latched, and where it starts is found out when it is opened again.
        ReadError::Disk(error) if error.is_not_found() => changed || has_failed(subject),
        ReadError::Disk(_) => subject.allowed.errors,
    };
    ensure!(fine, "a read of {from} fails: {error}");
    Ok(())
}

/// Whether the disk has failed the log, which it may.
fn has_failed(subject: &Subject) -> bool {
    subject.allowed.errors && matches!(subject.log.latched(), Some(Latch::Failed(_)))
}

async fn out_of_range(subject: &Subject) -> Result<(), Violation> {
    let beyond = subject.ledger.borrow().end() + 1_000_000;
    let start = subject.log.log_start();
    let mut places = vec![Offset(beyond)];
    if start.0 > 0 {
        places.push(Offset(subject.world.below(start.0)));
    }
    for place in places {
        let read = subject.log.read(place, 1000, subject.log.ack_end()).await;
        let refused = match read {
            Err(ReadError::OutOfRange { .. }) => true,
            Err(ReadError::Damaged { .. }) => subject.is_damaged(),
            _ => false,
        };
        ensure!(
            refused,
            "offset {place} is out of range, and a read of it succeeds"
        );
    }
    Ok(())
}

async fn timestamps(subject: &Subject) -> Result<(), Violation> {
    let timestamp = subject.world.clock.get() - subject.world.below(300) as i64;
    let cuts = subject.ledger.borrow().cuts();
    let (start, end) = (subject.log.log_start().0, subject.log.readable_end().0);
    let expected = subject
        .ledger
        .borrow()
        .find_timestamp(start, end, timestamp);
    let found = match subject.log.find_timestamp(Timestamp(timestamp)).await {
        Ok(found) => found.map(|(offset, at)| (offset.0, at.0)),
        Err(error) => {
            let changed = subject.ledger.borrow().cuts() != cuts || subject.is_truncating();
            return excuse(subject, &error, Offset(start), changed);
        }
    };
    subject.observe()?;
    let moved = subject.is_truncating()
        || subject.ledger.borrow().cuts() != cuts
        || subject.log.log_start().0 != start;
    if moved || subject.is_damaged() {
        return Ok(());
    }
    match (expected, found) {
        (None, Some((offset, at))) => {
            ensure!(
                offset >= end && at >= timestamp,
                "timestamp {timestamp} is at {offset}"
            );
        }
        _ => ensure!(
            found == expected,
            "timestamp {timestamp} is found at {found:?}, stands at {expected:?}"
        ),
    }
    Ok(())
}
