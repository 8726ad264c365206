//! A node's disk: writes become durable in order, some time after they were asked for, and a
//! crash keeps some of those under way, the last of them perhaps in part.

use std::collections::VecDeque;

use millrace_replication::quorum::{
    Entry, HardState, LogTail, Recovered, SnapshotMeta, SnapshotWrite, Write, WriteId,
};

#[derive(Default)]
pub(crate) struct Disk {
    durable: Recovered,
    pending: VecDeque<Write>,
}

impl Disk {
    pub(crate) fn holding(durable: Recovered) -> Self {
        Self {
            durable,
            ..Self::default()
        }
    }

    pub(crate) fn submit(&mut self, write: Write) {
        // What is written is what is read back.
        for entry in &write.entries {
            assert_eq!(Entry::from_bytes(&entry.to_bytes()).as_ref(), Ok(entry));
        }
        if let Some(state) = &write.hard_state {
            assert_eq!(HardState::from_bytes(&state.to_bytes()).as_ref(), Ok(state));
        }
        if let Some(SnapshotWrite { snapshot, .. }) = &write.snapshot {
            let meta = SnapshotMeta::from_bytes(&snapshot.meta.to_bytes());
            assert_eq!(meta.as_ref(), Ok(&snapshot.meta));
        }
        self.pending.push_back(write);
    }

    /// The oldest write under way is durable.
    pub(crate) fn complete(&mut self) -> Option<WriteId> {
        let write = self.pending.pop_front()?;
        let id = write.id;
        self.store(write);
        Some(id)
    }

    /// What is there after a crash.
    pub(crate) fn crash(&mut self, random: &mut fastrand::Rng) -> Recovered {
        while let Some(mut write) = self.pending.pop_front() {
            if random.bool() {
                // Cut off: the parts become durable in their order.
                let parts = 2 + write.entries.len();
                let kept = random.usize(0..=parts);
                write.entries.truncate(kept.saturating_sub(2));
                if kept < 2 {
                    write.snapshot = None;
                }
                if kept < 1 {
                    write.hard_state = None;
                }
                self.store(write);
                break;
            }
            self.store(write);
        }
        self.pending.clear();
        self.durable.clone()
    }

    fn store(&mut self, write: Write) {
        let Recovered {
            hard_state,
            snapshot,
            entries,
        } = &mut self.durable;
        if let Some(state) = write.hard_state {
            *hard_state = state;
        }
        if let Some(SnapshotWrite {
            snapshot: new,
            tail,
        }) = write.snapshot
        {
            match tail {
                LogTail::Discard => entries.clear(),
                LogTail::Keep => entries.retain(|entry| entry.index > new.meta.index),
            }
            *snapshot = new;
        }
        if let Some(first) = write.entries.first() {
            entries.retain(|entry| entry.index < first.index);
            entries.extend(write.entries);
        }
    }
}
