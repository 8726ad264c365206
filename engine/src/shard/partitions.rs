//! The partitions of a shard: opened on first use, by one opener whoever asks, and gone
//! when their topic is.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use millrace_model::{ErrorCode, LogId};

use super::Refusal;
use super::notice::Notice;
use crate::partition::Partition;

/// How long a partition whose log could not be opened is answered with that error before the
/// next request tries again: opening may read a whole segment.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Partitions {
    slots: RefCell<HashMap<LogId, Slot>>,
    /// Partitions that are gone and whose users have not all let go.
    leaving: RefCell<HashSet<LogId>>,
    /// A slot has left [`Slot::Opening`].
    changed: Notice,
}

enum Slot {
    Opening,
    Open(Rc<Partition>),
    Failed(Refusal, Instant),
}

/// What a caller of [`Partitions::find`] is to do.
pub(crate) enum Found {
    /// Use it.
    Open(Rc<Partition>),
    /// Open it, then call [`Partitions::opened`].
    ToOpen,
    /// Wait for [`Partitions::settled`], then ask again.
    Opening,
    /// Give up.
    Failed(Refusal),
}

impl Partitions {
    /// The partition, or the caller's part in opening it.
    pub(crate) fn find(&self, id: LogId) -> Found {
        if self.leaving.borrow().contains(&id) {
            // It may be back before its files are gone.
            return Found::Opening;
        }
        let mut slots = self.slots.borrow_mut();
        match slots.get(&id) {
            Some(Slot::Open(partition)) => return Found::Open(Rc::clone(partition)),
            Some(Slot::Opening) => return Found::Opening,
            Some(Slot::Failed(refusal, since)) if since.elapsed() < RETRY_AFTER => {
                return Found::Failed(refusal.clone());
            }
            Some(Slot::Failed(..)) | None => {}
        }
        slots.insert(id, Slot::Opening);
        Found::ToOpen
    }

    /// Says how opening went. False when the partition was removed meanwhile.
    pub(crate) fn opened(&self, id: LogId, result: Result<Rc<Partition>, Refusal>) -> bool {
        let mut slots = self.slots.borrow_mut();
        let wanted = slots.contains_key(&id);
        if wanted {
            let slot = match result {
                Ok(partition) => Slot::Open(partition),
                Err(refusal) => Slot::Failed(refusal, Instant::now()),
            };
            slots.insert(id, slot);
        }
        drop(slots);
        self.changed.notify();
        wanted
    }

    /// Waits until no one opens `id`, or removes its files.
    pub(crate) async fn settled(&self, id: LogId) {
        loop {
            let changed = self.changed.notified();
            let is_opening = matches!(self.slots.borrow().get(&id), Some(Slot::Opening));
            if !is_opening && !self.leaving.borrow().contains(&id) {
                return;
            }
            changed.await;
        }
    }

    /// The partition if it is open.
    pub(crate) fn open(&self, id: LogId) -> Option<Rc<Partition>> {
        match self.slots.borrow().get(&id) {
            Some(Slot::Open(partition)) => Some(Rc::clone(partition)),
            _ => None,
        }
    }

    /// All that are open.
    pub(crate) fn all_open(&self) -> Vec<Rc<Partition>> {
        let slots = self.slots.borrow();
        let open = slots.values().filter_map(|slot| match slot {
            Slot::Open(partition) => Some(Rc::clone(partition)),
            _ => None,
        });
        open.collect()
    }

    /// Whether the partition's log is in use: open, being opened, or not let go yet.
    pub(crate) fn is_in_use(&self, id: LogId) -> bool {
        self.leaving.borrow().contains(&id)
            || matches!(
                self.slots.borrow().get(&id),
                Some(Slot::Open(_) | Slot::Opening)
            )
    }

    /// Takes away the partitions that `gone` names, with `why` for their users, and returns
    /// those that were open.
    pub(crate) fn remove(
        &self,
        gone: impl Fn(LogId) -> bool,
        why: ErrorCode,
    ) -> Vec<Rc<Partition>> {
        let mut ended = Vec::new();
        self.slots.borrow_mut().retain(|id, slot| {
            if gone(*id)
                && let Slot::Open(partition) = slot
            {
                ended.push(Rc::clone(partition));
            }
            !gone(*id)
        });
        for partition in &ended {
            self.leaving.borrow_mut().insert(partition.id());
            partition.end(why);
        }
        self.changed.notify();
        ended
    }

    /// The last user of a removed partition has let go, and its files are gone.
    pub(crate) fn left(&self, id: LogId) {
        self.leaving.borrow_mut().remove(&id);
        self.changed.notify();
    }

    /// Lets go of a partition that nobody uses. False when somebody does.
    pub(crate) fn close_unused(&self, partition: &Rc<Partition>) -> bool {
        let id = partition.id();
        // The slot's and the caller's.
        let unused = Rc::strong_count(partition) <= 2 && partition.is_settled();
        if unused {
            self.slots.borrow_mut().remove(&id);
        }
        unused
    }
}
