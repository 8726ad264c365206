//! What a coordinator appends to the log of its partition, and what became of it, in order.
//!
//! **Invariant:** after an append that failed nothing more of the same machine reaches the log,
//! even if the log has healed before the machine learns of it. So what is durable is always a
//! prefix of what the machine has asked for, and replaying it is right.
//! **Invariant:** the machine is told of a failed write only when every earlier one is settled. So
//! when it is thrown away, nothing of it is still on its way to the device.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use millrace_groups::{Input, Record, WriteId};
use millrace_model::{BatchBuilder, BatchSpec, ErrorCode, Offset, Timestamp};
use millrace_replication::partition::Acks;

use crate::lane::{Place, Settle};
use crate::partition::{Partition, ProducedBatch};

/// What an append is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The machine asked for it.
    Machine(WriteId),
    /// A part of a checkpoint.
    Checkpoint,
}

/// What has become of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) purpose: Purpose,
    pub(super) result: Result<(), ErrorCode>,
}

impl Fate {
    /// What the machine is told of its own append.
    pub(super) fn input(self, write: WriteId) -> Input {
        match self.result {
            Ok(()) => Input::Written(write),
            // Whatever is wrong with the log, to clients it is a coordinator that is not there.
            Err(_) => Input::WriteFailed(write, ErrorCode::CoordinatorNotAvailable),
        }
    }
}

struct Append {
    purpose: Purpose,
    result: Option<Result<(), ErrorCode>>,
}

/// See the module's documentation.
pub(super) struct Journal {
    partition: Rc<Partition>,
    /// Appends whose fate the coordinator has not taken yet; the first has this number.
    appends: RefCell<VecDeque<Append>>,
    first: Cell<u64>,
    /// Why nothing more is appended.
    failed: Cell<Option<ErrorCode>>,
    builder: RefCell<BatchBuilder>,
    /// Bytes appended, with what was there when the coordinator was loaded.
    bytes: Cell<u64>,
}

impl Journal {
    /// A journal on a log of which `bytes` were replayed.
    pub(super) fn new(partition: Rc<Partition>, bytes: u64) -> Self {
        Self {
            partition,
            appends: RefCell::default(),
            first: Cell::new(0),
            failed: Cell::new(None),
            builder: RefCell::default(),
            bytes: Cell::new(bytes),
        }
    }

    pub(super) fn partition(&self) -> &Rc<Partition> {
        &self.partition
    }

    /// Appends records as one batch. `teller` is told what became of it, unless that is clear at
    /// once; then [`Journal::next_fate`] is.
    pub(super) fn append(
        &self,
        purpose: Purpose,
        records: &[Record],
        now: Timestamp,
        teller: &Rc<dyn Settle>,
    ) {
        let number = self.first.get() + self.appends.borrow().len() as u64;
        let result = None;
        self.appends
            .borrow_mut()
            .push_back(Append { purpose, result });
        let batch = match self.failed.get() {
            Some(code) => Err(code),
            None => self.batch(records, now),
        };
        let appended = batch.and_then(|batch| {
            let produced = ProducedBatch {
                batch: &batch,
                receive_nanos: 0,
                whole: Instant::now(),
                teller: Rc::clone(teller),
                place: Place(number),
                acks: Acks::All,
            };
            let appended = self.partition.append_batch(produced);
            appended.map_err(|refusal| refusal.code)
        });
        if let Err(code) = appended {
            self.settle(number, Err(code));
        }
    }

    fn batch(&self, records: &[Record], now: Timestamp) -> Result<Bytes, ErrorCode> {
        let mut builder = self.builder.borrow_mut();
        builder.clear();
        for record in records {
            let appended = builder.append(Some(&record.key), record.value.as_deref(), [], now);
            appended.map_err(|_| ErrorCode::MessageTooLarge)?;
        }
        let batch = builder.build(&BatchSpec::default());
        let batch = Bytes::from(batch.map_err(|_| ErrorCode::MessageTooLarge)?);
        self.bytes.set(self.bytes.get() + batch.len() as u64);
        Ok(batch)
    }

    /// Says what became of an append.
    pub(super) fn settle(&self, number: u64, result: Result<(), ErrorCode>) {
        if let Err(code) = result
            && self.failed.get().is_none()
        {
            self.failed.set(Some(code));
        }
        let at = number.checked_sub(self.first.get());
        let at = at.and_then(|at| usize::try_from(at).ok());
        let mut appends = self.appends.borrow_mut();
        let append = at.and_then(|at| appends.get_mut(at));
        append.expect("an append is settled once").result = Some(result);
    }

    /// The fate of the first append whose fate was not taken yet, if it is known.
    pub(super) fn next_fate(&self) -> Option<Fate> {
        let mut appends = self.appends.borrow_mut();
        let result = appends.front()?.result?;
        let purpose = appends.pop_front()?.purpose;
        self.first.set(self.first.get() + 1);
        Some(Fate { purpose, result })
    }

    /// Whether nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.appends.borrow().is_empty()
    }

    /// The offset that the next append gets.
    pub(super) fn end(&self) -> Offset {
        self.partition.log().accepted_end()
    }

    /// Bytes of the log since the last checkpoint began.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// A checkpoint begins here.
    pub(super) fn begin_checkpoint(&self) {
        self.bytes.set(0);
    }
}
