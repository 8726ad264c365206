//! Changes of a log from outside: delete-records, truncation, retention, flushes, settings.

use std::rc::Rc;

use millrace_model::{LeaderEpoch, Offset};
use millrace_storage::{ChangeError, Latch};

use super::trace::{Violation, ensure};
use super::world::{Subject, trace};

/// Makes `times` random changes.
pub(super) async fn run(subject: &Subject, times: u64) -> Result<(), Violation> {
    for _ in 0..times {
        subject.world.pause().await;
        subject.observe()?;
        match subject.world.below(10) {
            0 => delete_records(subject).await?,
            1 => truncate(subject).await?,
            2..=4 => maintain(subject).await?,
            5 | 6 => flush(subject).await?,
            7 => epochs(subject)?,
            _ => change_settings(subject),
        }
        subject.kick();
        subject.observe()?;
    }
    Ok(())
}

async fn delete_records(subject: &Subject) -> Result<(), Violation> {
    let (start, end) = (subject.log.log_start(), subject.log.durable_end());
    let to = start.plus(subject.world.below(end.0.saturating_sub(start.0) + 1));
    trace!(subject.world, "{} deletes records below {to}", subject.name);
    subject.ledger.borrow_mut().may_start_at(to.0);
    match subject.log.set_log_start(to).await {
        Ok(now) => ensure!(
            now >= to && subject.log.log_start() >= to,
            "log start {now}, not {to}"
        ),
        Err(error) => excuse(subject, &error)?,
    }
    Ok(())
}

async fn truncate(subject: &Subject) -> Result<(), Violation> {
    subject.close().await;
    let truncated = truncate_alone(subject).await;
    subject.closed.set(false);
    truncated
}

async fn truncate_alone(subject: &Subject) -> Result<(), Violation> {
    subject.observe()?;
    let places = subject.ledger.borrow().boundaries();
    let keep = places.len() - (subject.world.below(4) as usize).min(places.len() - 1);
    let to = places[subject.world.below(keep as u64) as usize..][..1][0];
    if to < subject.log.log_start().0 || subject.is_damaged() {
        return Ok(());
    }
    trace!(subject.world, "{} truncates to {to}", subject.name);
    let before = subject.ledger.borrow().truncation();
    subject.ledger.borrow_mut().begin_truncate(to);
    match subject.log.truncate(Offset(to)).await {
        Ok(()) => {
            subject.ledger.borrow_mut().truncated(to);
            let end = subject.log.accepted_end().0;
            ensure!(end == to, "truncated to {to}, ends at {end}");
        }
        Err(error) => {
            excuse(subject, &error)?;
            // A log that still takes appends, or will once there is room, was not changed.
            if matches!(subject.log.latched(), None | Some(Latch::Full)) {
                subject.ledger.borrow_mut().not_truncated(before);
            }
        }
    }
    Ok(())
}

async fn maintain(subject: &Subject) -> Result<(), Violation> {
    let world = &subject.world;
    world.clock.set(world.clock.get() + world.below(200) as i64);
    let (now, start) = (world.now(), subject.log.log_start().0);
    let settings = subject.settings.borrow().clone();
    let done = subject.log.maintain(now).await;
    trace!(world, "{} maintains: {done:?}", subject.name);
    let ledger = subject.ledger.borrow();
    if let (Some(ms), None) = (settings.retention_ms, settings.retention_bytes) {
        let deleted = ledger.newest_deleted(start, subject.log.log_start().0);
        let limit = world.clock.get() - i64::try_from(ms).expect("a few milliseconds");
        let young = deleted.filter(|newest| *newest > limit);
        // Delete-records may have moved the start meanwhile; then age says nothing.
        let asked = subject.world.now() != now;
        ensure!(
            young.is_none() || asked,
            "deleted {young:?}, younger than {limit}"
        );
    }
    Ok(())
}

async fn flush(subject: &Subject) -> Result<(), Violation> {
    let accepted = subject.log.accepted_end();
    let cuts = subject.ledger.borrow().cuts();
    match subject.log.flush().await {
        Ok(()) => {
            subject.observe()?;
            let durable = subject.log.durable_end();
            let cut = subject.ledger.borrow().cuts() != cuts;
            ensure!(
                durable >= accepted || cut,
                "flushed {accepted}, durable is {durable}"
            );
            trace!(subject.world, "{} flushed {accepted}", subject.name);
        }
        Err(error) => excuse(subject, &error)?,
    }
    Ok(())
}

fn epochs(subject: &Subject) -> Result<(), Violation> {
    let end = subject.log.accepted_end();
    let (epoch, at) = subject.log.end_offset_for_epoch(subject.epoch);
    ensure!(
        epoch <= subject.epoch && at <= end,
        "epoch {epoch} ends at {at}, the log at {end}"
    );
    if subject.epoch.0 > 0 {
        let earlier = LeaderEpoch(subject.epoch.0 - 1);
        let (found, at) = subject.log.end_offset_for_epoch(earlier);
        ensure!(
            found <= earlier && at <= end,
            "epoch {found} ends at {at}, the log at {end}"
        );
    }
    Ok(())
}

fn change_settings(subject: &Subject) {
    let mut settings = subject.settings.borrow().clone();
    let world = &subject.world;
    match world.below(4) {
        0 => settings.write_caching = !settings.write_caching,
        1 => settings.segment_bytes = super::history::segment_bytes(world),
        2 => settings.retention_ms = world.one_in(2).then(|| 50 + world.below(500)),
        _ => settings.retention_bytes = world.one_in(2).then(|| world.below(100_000)),
    }
    let caching = settings.write_caching;
    trace!(
        world,
        "{} settings: caching {caching}, {settings:?}", subject.name
    );
    subject.cached.set(subject.cached.get() || caching);
    if settings.retention_ms.is_some() || settings.retention_bytes.is_some() {
        let mut ledger = subject.ledger.borrow_mut();
        let end = ledger.end();
        ledger.may_start_at(end);
    }
    subject.settings.replace(settings.clone());
    subject.log.apply_settings(Rc::new(settings));
}

fn excuse(subject: &Subject, error: &ChangeError) -> Result<(), Violation> {
    trace!(subject.world, "{} change fails: {error}", subject.name);
    let fine = match error {
        ChangeError::OutOfRange { .. } | ChangeError::Epoch { .. } => false,
        ChangeError::Latched(_) => subject.log.latched().is_some(),
        ChangeError::Disk(error) if error.is_full() => subject.allowed.full,
        ChangeError::Disk(_) => subject.allowed.errors,
    };
    ensure!(fine, "a change fails: {error}");
    Ok(())
}
