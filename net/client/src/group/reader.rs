//! The partitions that a member reads: their streams, merged as frames come, and how far each has been
//! handed out and processed.
//!
//! A partition that was stopped stays, silent, until it is removed: its position is still to be
//! committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::vec;

use millrace_model::{Decompressor, LogId, Offset};
use millrace_wire::OffsetSpec;
use tokio::sync::Semaphore;

use super::{GroupPartition, GroupRecord};
use crate::consumer::fetcher::{Fetched, Fetcher, Item, Opening, Room};
use crate::consumer::{FRAMES_PER_PARTITION, record};
use crate::{Client, ClientError, ConsumerRecord, OffsetReset};

/// One partition.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: GroupPartition,
    /// The next offset that the application gets.
    pub(super) position: Offset,
    /// The next offset that it has not processed: below `position` while it works on what it got last.
    pub(super) processed: Offset,
    /// What is committed.
    pub(super) committed: Option<Offset>,
    /// High watermark when the stream was opened first.
    end: Offset,
    open: bool,
    failed: bool,
    stopped: bool,
    /// Closed to end the partition's task.
    stop: Arc<Semaphore>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    client: Client,
    reset: OffsetReset,
    buffer_bytes: usize,
    decompressed_bytes_max: usize,
    rack: Option<Arc<str>>,
    /// By a number that is never used again, so that what a stopped stream left behind finds nobody.
    slots: BTreeMap<usize, Slot>,
    next_number: usize,
    sender: flume::Sender<(usize, Item)>,
    items: flume::Receiver<(usize, Item)>,
    bytes: Arc<Semaphore>,
    /// Frames that came while others were wanted; bounded, for they hold their room.
    parked: VecDeque<(usize, Fetched)>,
    current: Option<Current>,
    /// Whose records the application got last.
    last: Option<usize>,
    scratch: Decompressor,
}

/// The frame whose records are being handed out.
#[derive(Debug)]
struct Current {
    number: usize,
    topic: Arc<str>,
    records: vec::IntoIter<ConsumerRecord>,
    next: Offset,
    _room: Room,
}

/// Which partitions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Ever,
    /// Those whose end, as it was when they were opened, is not reached.
    End,
}

impl Reader {
    pub(super) fn new(
        client: Client,
        reset: OffsetReset,
        buffer_bytes: usize,
        decompressed_bytes_max: usize,
        rack: Option<&str>,
    ) -> Result<Self, ClientError> {
        if buffer_bytes == 0 || buffer_bytes > Semaphore::MAX_PERMITS {
            return Err(ClientError::Options {
                name: "buffer_bytes",
                reason: "at least 1, and less than memory has".to_owned(),
            });
        }
        let (sender, items) = flume::unbounded();
        Ok(Self {
            client,
            reset,
            buffer_bytes,
            decompressed_bytes_max,
            rack: rack.map(Arc::from),
            slots: BTreeMap::new(),
            next_number: 0,
            sender,
            items,
            bytes: Arc::new(Semaphore::new(buffer_bytes)),
            parked: VecDeque::new(),
            current: None,
            last: None,
            scratch: Decompressor::new(),
        })
    }

    /// Begins to read a partition from what is committed, or from where the options say.
    pub(super) fn start(&mut self, partition: GroupPartition, committed: Option<Offset>) {
        let from = match (committed, self.reset) {
            (Some(offset), _) => OffsetSpec::At(offset),
            (None, OffsetReset::Latest) => OffsetSpec::Latest,
            (None, OffsetReset::Earliest | OffsetReset::None) => OffsetSpec::Earliest,
        };
        let number = self.next_number;
        self.next_number += 1;
        let stop = Arc::new(Semaphore::new(0));
        let fetcher = Fetcher {
            client: self.client.clone(),
            log: partition.log,
            index: number,
            reset: self.reset,
            opening: Opening::Patient,
            items: self.sender.clone(),
            bytes: Arc::clone(&self.bytes),
            buffer_bytes: self.buffer_bytes,
            turns: Arc::new(Semaphore::new(FRAMES_PER_PARTITION)),
            rack: self.rack.clone(),
        };
        let runtime = &self.client.shared().runtime;
        runtime.spawn(fetcher.run(from, Arc::clone(&stop)));
        let slot = Slot {
            partition,
            position: committed.unwrap_or(Offset::ZERO),
            processed: committed.unwrap_or(Offset::ZERO),
            committed,
            end: Offset::ZERO,
            open: false,
            failed: false,
            stopped: false,
            stop,
        };
        self.slots.insert(number, slot);
    }

    /// Stops these partitions: nothing of them is handed out from now on.
    pub(super) fn stop(&mut self, partitions: &[GroupPartition]) {
        let mut stopped = Vec::new();
        for (number, slot) in &mut self.slots {
            if partitions.iter().any(|one| one.log == slot.partition.log) {
                slot.stopped = true;
                slot.stop.close();
                stopped.push(*number);
            }
        }
        self.parked.retain(|(number, _)| !stopped.contains(number));
        if let Some(current) = &self.current
            && stopped.contains(&current.number)
        {
            self.current = None;
        }
    }

    /// Forgets these partitions.
    pub(super) fn remove(&mut self, partitions: &[GroupPartition]) {
        self.stop(partitions);
        self.slots.retain(|_, slot| {
            let removed = partitions.iter().any(|one| one.log == slot.partition.log);
            !removed
        });
    }

    /// All that was handed out is processed: the application is back.
    pub(super) fn settle(&mut self) {
        // Since it was here last it has got records of one partition.
        if let Some(slot) = self.last.take().and_then(|last| self.slots.get_mut(&last)) {
            slot.processed = slot.position;
        }
    }

    /// The partitions whose position is another than what is committed. One whose stream is not
    /// open yet has no position.
    pub(super) fn uncommitted(&self) -> impl Iterator<Item = &Slot> {
        self.slots
            .values()
            .filter(|slot| slot.open && slot.committed != Some(slot.processed))
    }

    /// These offsets are committed.
    pub(super) fn committed(&mut self, offsets: &[(LogId, Offset)]) {
        for slot in self.slots.values_mut() {
            let of_slot = offsets.iter().find(|(log, _)| *log == slot.partition.log);
            if let Some((_, offset)) = of_slot {
                slot.committed = Some(*offset);
            }
        }
    }

    /// Every partition that is read.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().filter(|slot| !slot.stopped)
    }

    /// Whether every partition has reached the end that it had when it was opened.
    pub(super) fn is_at_end(&self) -> bool {
        self.slots().all(Slot::is_at_end)
    }

    /// The next record of the present frame.
    pub(super) fn next_of_current(&mut self) -> Option<GroupRecord> {
        let current = self.current.as_mut()?;
        let record = current.records.next()?;
        let is_last = current.records.as_slice().is_empty();
        let position = match is_last {
            true => current.next,
            false => record.offset.plus(1),
        };
        if let Some(slot) = self.slots.get_mut(&current.number) {
            slot.position = position;
        }
        self.last = Some(current.number);
        let topic = Arc::clone(&current.topic);
        if is_last {
            self.current = None;
        }
        Some(GroupRecord { topic, record })
    }

    /// Makes the next frame that is wanted the present one; awaits one.
    pub(super) async fn load(&mut self, until: Until) -> Result<(), ClientError> {
        let at = self
            .parked
            .iter()
            .position(|(number, _)| self.wants(*number, until));
        if let Some((number, fetched)) = at.and_then(|at| self.parked.remove(at)) {
            return self.decode(number, fetched);
        }
        let item = self.items.recv_async().await;
        let (number, item) = item.map_err(|_| ClientError::Closed)?;
        match item {
            Item::Frame(fetched) if self.wants(number, until) => self.decode(number, fetched),
            Item::Frame(fetched) => {
                let is_read = self.slots.get(&number).is_some_and(|slot| !slot.stopped);
                if is_read {
                    self.parked.push_back((number, fetched));
                }
                Ok(())
            }
            Item::Opened(opened) => {
                if let Some(slot) = self.slots.get_mut(&number) {
                    slot.open = true;
                    slot.position = opened.start;
                    slot.processed = opened.start;
                    slot.end = opened.high_watermark;
                }
                Ok(())
            }
            Item::Failed(error) => match self.slots.get_mut(&number) {
                Some(slot) if !slot.stopped => {
                    slot.failed = true;
                    Err(error)
                }
                _ => Ok(()),
            },
        }
    }

    fn wants(&self, number: usize, until: Until) -> bool {
        self.slots.get(&number).is_some_and(|slot| {
            !slot.stopped && !slot.failed && (until == Until::Ever || !slot.is_at_end())
        })
    }

    fn decode(&mut self, number: usize, fetched: Fetched) -> Result<(), ClientError> {
        let Some(slot) = self.slots.get_mut(&number) else {
            return Ok(());
        };
        let decoded = record::decode(
            slot.partition.log,
            &fetched.bytes,
            slot.position,
            &mut self.scratch,
            self.decompressed_bytes_max,
        );
        slot.failed = decoded.is_err();
        let (records, next) = decoded?;
        if records.is_empty() {
            (slot.position, slot.processed) = (next, next);
            return Ok(());
        }
        self.current = Some(Current {
            number,
            topic: Arc::clone(&slot.partition.topic),
            records: records.into_iter(),
            next,
            _room: fetched.room,
        });
        Ok(())
    }
}

impl Slot {
    fn is_at_end(&self) -> bool {
        self.failed || (self.open && self.position >= self.end)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.slots.values().for_each(|slot| slot.stop.close());
    }
}
