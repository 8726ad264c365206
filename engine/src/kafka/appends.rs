//! Batches on their way into the logs of a shard, in the order in which they came.
//!
//! A partition may have to be opened first, or have as much to write as it may. What comes for it
//! meanwhile waits in line behind what came before, so a producer that sends without waiting finds
//! its sequence kept.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::or;
use millrace_model::{ErrorCode, LogId};
use millrace_replication::partition::Acks;

use super::produce::Gather;
use crate::lane::Place;
use crate::metrics::Stage;
use crate::partition::{Partition, ProducedBatch};
use crate::shard::{Refusal, Shard};

/// How a request with batches came.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    /// How long it took.
    pub(super) receive_nanos: u64,
    /// When its last byte was there.
    pub(super) whole: Instant,
    /// Who must have the batches before their producer is told.
    pub(super) acks: Acks,
}

/// A batch for a partition of this shard.
pub(super) struct Append {
    pub(super) log: LogId,
    pub(super) batch: Bytes,
    pub(super) arrival: Arrival,
    /// Where its fate is gathered.
    pub(super) gather: Rc<Gather>,
    pub(super) place: Place,
}

/// Batches that wait in line, by partition. What they hold is part of the memory of requests.
#[derive(Default)]
pub(crate) struct Appends {
    lines: RefCell<HashMap<LogId, VecDeque<Append>>>,
}

impl Appends {
    fn next(&self, log: LogId) -> Option<Append> {
        let mut lines = self.lines.borrow_mut();
        let next = lines.get_mut(&log)?.pop_front();
        if next.is_none() {
            // From now on batches go to the log at once again.
            lines.remove(&log);
        }
        next
    }
}

/// Appends a batch, now or once its partition takes it. Its place is settled in any case.
pub(super) fn append(shard: &Rc<Shard>, append: Append) {
    let log = append.log;
    let receive_nanos = append.arrival.receive_nanos;
    let metrics = shard.metrics();
    metrics.record(Stage::Receive, log.topic, receive_nanos);
    if let Some(line) = shard.kafka().appends().lines.borrow_mut().get_mut(&log) {
        return line.push_back(append);
    }
    let left = match shard.open_partition(log) {
        Some(partition) => append_to(&partition, append),
        None => Some(append),
    };
    if let Some(first) = left {
        let line = VecDeque::from([first]);
        shard.kafka().appends().lines.borrow_mut().insert(log, line);
        let server = Rc::clone(shard);
        shard.spawn(async move { serve_line(&server, log).await });
    }
}

/// Appends what waits in line for a partition until nothing does.
async fn serve_line(shard: &Rc<Shard>, log: LogId) {
    let opened = shard.partition(log).await;
    while let Some(next) = shard.kafka().appends().next(log) {
        match &opened {
            Ok(partition) => append_when_possible(partition, next).await,
            Err(refusal) => refuse(next, refusal.clone()),
        }
    }
}

/// Waits while the log has as much to write as it may. It is written meanwhile, so the wait ends.
async fn append_when_possible(partition: &Rc<Partition>, mut next: Append) {
    loop {
        let changed = partition.log().changed();
        let Some(left) = append_to(partition, next) else {
            return;
        };
        next = left;
        let ended = async {
            partition.ended().await;
        };
        or(changed, ended).await;
    }
}

/// Appends, or refuses, or gives the batch back because the log takes no more for now.
fn append_to(partition: &Rc<Partition>, append: Append) -> Option<Append> {
    let produced = ProducedBatch {
        batch: &append.batch,
        receive_nanos: append.arrival.receive_nanos,
        whole: append.arrival.whole,
        teller: Rc::clone(&append.gather) as _,
        place: append.place,
        acks: append.arrival.acks,
    };
    match partition.append_batch(produced) {
        Ok(()) => None,
        Err(refusal) if refusal.code == ErrorCode::ThrottlingQuotaExceeded => Some(append),
        Err(refusal) => {
            refuse(append, refusal);
            None
        }
    }
}

fn refuse(append: Append, refusal: Refusal) {
    append.gather.refuse(append.place, refusal);
}
