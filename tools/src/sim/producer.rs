//! Producers, idempotent and plain, well-behaved and not.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::BytesMut;
use millrace_model::{
    BatchBuilder, BatchSpec, ErrorCode, LogId, Offset, ProducerEpoch, ProducerId, ProducerStamp,
    Sequence, Timestamp,
};

use super::frames::batch_of;
use super::ledger::{Sent, Stamp, Verdict};
use super::trace::{Violation, ensure};
use super::world::{AppendFailure, Subject, World, trace};

/// Batches in flight at most, which is what idempotence allows.
const MAX_IN_FLIGHT: usize = 5;

/// Bytes of a frame that the log writes over: the batch's base offset and leader epoch.
const ASSIGNED: [Range<usize>; 2] = [64..72, 76..80];

/// An idempotent producer that lives through crashes and repeats what was not acknowledged.
#[derive(Debug)]
pub(super) struct Producer {
    id: i64,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: i16,
    next: i32,
    /// What was sent and not acknowledged, oldest first.
    in_flight: VecDeque<Sending>,
    /// The last acknowledged batches.
    done: VecDeque<Sending>,
}

#[derive(Clone, Debug)]
struct Sending {
    frame: Rc<[u8]>,
    sent: Sent,
    /// Offset after its last record, once the log of this life has taken it.
    next: Option<Offset>,
}

impl Producer {
    pub(super) fn new(id: i64) -> Self {
        Self {
            id,
            state: RefCell::default(),
        }
    }

    /// Sends `batches` new batches, after repeating what an earlier life left open.
    pub(super) async fn run(&self, subject: &Subject, batches: u64) -> Result<(), Violation> {
        self.resume(subject).await?;
        for _ in 0..batches {
            subject.world.pause().await;
            subject.enter().await;
            let going = self.step(subject);
            subject.leave();
            if !going? {
                return Ok(());
            }
            let in_flight = self.state.borrow().in_flight.len();
            if in_flight >= MAX_IN_FLIGHT || subject.world.one_in(3) {
                self.collect(subject).await?;
            }
        }
        self.collect(subject).await
    }

    /// One append: mostly a new batch, at times a repetition or a gap.
    fn step(&self, subject: &Subject) -> Result<bool, Violation> {
        let (world, next) = (&subject.world, self.state.borrow().next);
        match world.below(12) {
            0 => {
                if let Some(sending) = self.one_done(world) {
                    self.send(subject, &sending)?;
                }
                Ok(true)
            }
            1 => {
                let gap = self.build(world, subject.id, next + 7);
                if subject.ledger.borrow().verdict(gap.stamp()) == Verdict::OutOfOrder {
                    self.send(subject, &gap)?;
                }
                Ok(true)
            }
            _ => {
                let mut sending = self.build(world, subject.id, next);
                sending.next = self.send(subject, &sending)?;
                let taken = sending.next.is_some();
                if taken {
                    let mut state = self.state.borrow_mut();
                    state.next += sending.sent.records as i32;
                    state.in_flight.push_back(sending);
                }
                Ok(taken)
            }
        }
    }

    fn one_done(&self, world: &World) -> Option<Sending> {
        let state = self.state.borrow();
        let index = world.below(state.done.len() as u64) as usize;
        state.done.get(index).cloned()
    }

    /// Appends a batch and holds the answer against what the ledger says it must be.
    fn send(&self, subject: &Subject, sending: &Sending) -> Result<Option<Offset>, Violation> {
        let stamp = sending.stamp();
        subject.observe()?;
        let verdict = subject.ledger.borrow().verdict(stamp);
        let other = subject.ledger.borrow().forgetful_verdict(stamp);
        trace!(subject.world, "{} {stamp:?}: {verdict:?}", subject.name);
        let code = match subject.append(&sending.frame, &sending.sent) {
            Err(AppendFailure::Violation(violation)) => return Err(violation),
            Err(AppendFailure::Refused(code, why)) => {
                trace!(subject.world, "{} refused: {why}", subject.name);
                code
            }
            Ok(appended) => {
                let (base, next) = (appended.base_offset.0, appended.next_offset.0);
                let found = match appended.duplicate {
                    false => Verdict::Append,
                    true => Verdict::Duplicate { base, next },
                };
                ensure!(
                    found == verdict || Some(found) == other,
                    "{stamp:?} is {found:?}, must be {verdict:?}"
                );
                return Ok(Some(appended.next_offset));
            }
        };
        let fitting = match verdict {
            Verdict::OutOfOrder => code == ErrorCode::OutOfOrderSequenceNumber,
            Verdict::Stale => {
                code == ErrorCode::DuplicateSequenceNumber
                    || code == ErrorCode::OutOfOrderSequenceNumber
            }
            Verdict::Fenced => code == ErrorCode::InvalidProducerEpoch,
            Verdict::Append | Verdict::Duplicate { .. } => false,
        };
        ensure!(
            fitting || other.is_some() || subject.excused(code),
            "{stamp:?} is refused with {code}, must be {verdict:?}"
        );
        Ok(None)
    }

    /// Waits for the acknowledgement of everything in flight.
    async fn collect(&self, subject: &Subject) -> Result<(), Violation> {
        loop {
            let next = self
                .state
                .borrow()
                .in_flight
                .front()
                .and_then(|sending| sending.next);
            let Some(next) = next else {
                return Ok(());
            };
            if !subject.acknowledged(next).await? {
                return Ok(());
            }
            let mut state = self.state.borrow_mut();
            let sending = state
                .in_flight
                .pop_front()
                .expect("only this producer takes it away");
            state.done.push_back(sending);
            if state.done.len() > MAX_IN_FLIGHT {
                state.done.pop_front();
            }
        }
    }

    /// Goes on where the log stands after a crash: repeats what is open, in order. If even
    /// what was acknowledged is gone, as write caching allows, begins a new epoch.
    async fn resume(&self, subject: &Subject) -> Result<(), Violation> {
        if self.has_lost(subject) {
            trace!(
                subject.world,
                "{} producer {} begins a new epoch", subject.name, self.id
            );
            let epoch = self.state.borrow().epoch + 1;
            self.state.replace(State {
                epoch,
                ..State::default()
            });
            return Ok(());
        }
        let open = self.state.borrow().in_flight.len();
        for index in 0..open {
            subject.enter().await;
            let sending = self.state.borrow().in_flight[index].clone();
            let sent = self.send(subject, &sending);
            subject.leave();
            let next = sent?;
            self.state.borrow_mut().in_flight[index].next = next;
            if next.is_none() {
                return Ok(());
            }
            subject.world.pause().await;
        }
        self.collect(subject).await
    }

    fn has_lost(&self, subject: &Subject) -> bool {
        let ledger = subject.ledger.borrow();
        let kept = |sending: &Sending| {
            let verdict = ledger.verdict(sending.stamp());
            matches!(verdict, Verdict::Duplicate { .. } | Verdict::Stale)
        };
        !self.state.borrow().done.iter().all(kept)
    }

    fn build(&self, world: &World, id: LogId, first: i32) -> Sending {
        let epoch = self.state.borrow().epoch;
        let stamp = |records: i32| Stamp {
            id: self.id,
            epoch,
            first,
            last: first + records - 1,
        };
        build(world, id, Some(&stamp))
    }
}

impl Sending {
    fn stamp(&self) -> Stamp {
        self.sent
            .stamp
            .expect("an idempotent producer stamps its batches")
    }
}

/// A plain producer: sends, and waits for every acknowledgement that it wants.
pub(super) async fn run_plain(subject: &Subject, batches: u64) -> Result<(), Violation> {
    for _ in 0..batches {
        subject.world.pause().await;
        subject.enter().await;
        let sending = build(&subject.world, subject.id, None);
        let damaged = subject.world.one_in(12);
        let answer = match damaged {
            true => damaged_append(subject, &sending),
            false => subject
                .append(&sending.frame, &sending.sent)
                .map(|done| Some(done.next_offset)),
        };
        subject.leave();
        match answer {
            Err(AppendFailure::Violation(violation)) => return Err(violation),
            Err(AppendFailure::Refused(code, why)) => {
                ensure!(subject.excused(code), "a plain batch is refused: {why}");
                return Ok(());
            }
            Ok(Some(next)) if subject.world.one_in(2) => {
                subject.acknowledged(next).await?;
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Appends one plain batch and waits for its acknowledgement; false if it is not taken.
pub(super) async fn append_one(subject: &Subject) -> Result<bool, Violation> {
    let sending = build(&subject.world, subject.id, None);
    match subject.append(&sending.frame, &sending.sent) {
        Ok(appended) => subject.acknowledged(appended.next_offset).await,
        Err(AppendFailure::Violation(violation)) => Err(violation),
        Err(AppendFailure::Refused(code, why)) => {
            ensure!(subject.excused(code), "a plain batch is refused: {why}");
            Ok(false)
        }
    }
}

/// Sends a frame with a bit turned: it must be refused and leave nothing behind.
fn damaged_append(subject: &Subject, sending: &Sending) -> Result<Option<Offset>, AppendFailure> {
    let mut frame = sending.frame.to_vec();
    let at = subject.world.below(frame.len() as u64) as usize;
    if ASSIGNED.iter().any(|assigned| assigned.contains(&at)) {
        return Ok(None);
    }
    frame[at] ^= 1 << subject.world.below(8);
    let end = subject.log.accepted_end();
    let answer = subject.log.append(subject.world.now(), &[frame.into()]);
    let violation = |why: String| Err(AppendFailure::Violation(Violation(why)));
    match answer {
        Ok(_) => violation(format!("took a frame with a bit turned in byte {at}")),
        Err(_) if subject.log.accepted_end() != end => {
            violation("a refused frame moved the end".to_owned())
        }
        Err(_) => Ok(None),
    }
}

/// Builds a batch of random size, stamped by `stamp`, which is given the number of records.
fn build(world: &World, id: LogId, stamp: Option<&dyn Fn(i32) -> Stamp>) -> Sending {
    let records = 1 + world.below(4);
    let stamp = stamp.map(|stamp| stamp(records as i32));
    let timestamp = world.clock.get() - world.below(20) as i64;
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        let value = value(world);
        let added = builder.append(None, Some(&value), [], Timestamp(timestamp));
        added.expect("a few small records fit a batch");
    }
    let producer = stamp.map(|stamp| ProducerStamp {
        id: ProducerId(stamp.id),
        epoch: ProducerEpoch(stamp.epoch),
        base_sequence: Sequence(stamp.first),
    });
    let mut frame = BytesMut::new();
    let spec = BatchSpec {
        producer,
        ..BatchSpec::default()
    };
    builder
        .build_frame(id, &spec, &mut frame)
        .expect("a small batch fits a frame");
    let batch = Rc::from(batch_of(&frame));
    let frame = Rc::from(&frame[..]);
    Sending {
        frame,
        sent: Sent {
            batch,
            records,
            timestamp,
            stamp,
        },
        next: None,
    }
}

/// A value that no other has: a random number, repeated up to a random length.
fn value(world: &World) -> Vec<u8> {
    let unique = world.below(u64::MAX).to_le_bytes();
    let len = match world.below(10) {
        0 => 4000 + world.below(9000),
        1..=3 => 200 + world.below(1500),
        _ => 8 + world.below(100),
    };
    unique.into_iter().cycle().take(len as usize).collect()
}
