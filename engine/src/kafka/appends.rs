//! Batches on their way into the logs of a shard, in the order in which they came.
//!
//! A partition may have to be opened first, which takes a while. What comes for it meanwhile waits
//! in line behind what came before, so a producer that sends without waiting finds its sequence
//! kept also when its first batch is the one that opens the log.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use millrace_model::LogId;

use super::produce::Gather;
use crate::lane::Place;
use crate::partition::{Partition, ProducedBatch};
use crate::shard::{Refusal, Shard};

/// A batch for a partition of this shard.
pub(super) struct Append {
    pub(super) log: LogId,
    pub(super) batch: Bytes,
    pub(super) whole: Instant,
    /// Where its fate is gathered.
    pub(super) gather: Rc<Gather>,
    pub(super) place: Place,
}

/// Batches that wait for their partition to be opened. What they hold is part of the memory of
/// requests.
#[derive(Default)]
pub(crate) struct Appends {
    waiting: RefCell<HashMap<LogId, Vec<Append>>>,
}

/// Appends a batch, now or once its partition is open. Its place is settled in any case.
pub(super) fn append(shard: &Rc<Shard>, append: Append) {
    let log = append.log;
    let mut waiting = shard.kafka().appends().waiting.borrow_mut();
    if let Some(line) = waiting.get_mut(&log) {
        return line.push(append);
    }
    if let Some(partition) = shard.open_partition(log) {
        drop(waiting);
        return append_to(&partition, append);
    }
    waiting.insert(log, vec![append]);
    drop(waiting);
    let opener = Rc::clone(shard);
    shard.spawn(async move { open_for_line(&opener, log).await });
}

async fn open_for_line(shard: &Rc<Shard>, log: LogId) {
    let opened = shard.partition(log).await;
    // Nothing is awaited from here on, so nobody can pass those in line.
    let line = shard.kafka().appends().waiting.borrow_mut().remove(&log);
    for append in line.unwrap_or_default() {
        match &opened {
            Ok(partition) => append_to(partition, append),
            Err(refusal) => refuse(append, refusal.clone()),
        }
    }
}

fn append_to(partition: &Rc<Partition>, append: Append) {
    let produced = ProducedBatch {
        batch: &append.batch,
        whole: append.whole,
        teller: Rc::clone(&append.gather) as _,
        place: append.place,
    };
    if let Err(refusal) = partition.append_batch(produced) {
        refuse(append, refusal);
    }
}

fn refuse(append: Append, refusal: Refusal) {
    append.gather.refuse(append.place, refusal);
}
