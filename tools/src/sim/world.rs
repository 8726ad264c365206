//! What the actors of one life share: the open log, its ledger, the clock and the faults
//! that are allowed to show.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use millrace_model::{ErrorCode, LeaderEpoch, LogId, Offset, Timestamp, TopicSettings};
use millrace_storage::disk::memory::MemoryDisk;
use millrace_storage::disk::memory::executor::{LocalTasks, yield_now};
use millrace_storage::{Appended, Latch, Log};

use super::ledger::{Ledger, Sent};
use super::trace::{Trace, Violation, ensure};

/// Adds a line to the history's trace.
macro_rules! trace {
    ($world:expr, $($line:tt)+) => {
        $world.trace.line(format_args!($($line)+))
    };
}

pub(super) use trace;

/// What the whole history shares.
#[derive(Clone)]
pub(super) struct World {
    pub(super) trace: Rc<Trace>,
    pub(super) rng: Rc<RefCell<fastrand::Rng>>,
    /// Milliseconds since the epoch, as the broker's clock shows them.
    pub(super) clock: Rc<Cell<i64>>,
    /// The first violation that any actor met.
    pub(super) violation: Rc<RefCell<Option<Violation>>>,
}

impl World {
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.clock.get())
    }

    /// Notes the first violation, for the other actors may stumble over its consequences.
    pub(super) fn note(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            trace!(self, "violation: {violation}");
            self.violation.borrow_mut().get_or_insert(violation);
        }
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.rng.borrow_mut().u64(..end.max(1))
    }

    /// True once in `times`.
    pub(super) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Lets others run, for a random while.
    pub(super) async fn pause(&self) {
        self.clock.set(self.clock.get() + 1);
        for _ in 0..self.below(6) {
            yield_now().await;
        }
    }
}

/// Which faults this life may see, and so which errors are no violation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    /// I/O errors.
    pub(super) errors: bool,
    /// A full disk.
    pub(super) full: bool,
}

/// One open log with its model.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) world: World,
    pub(super) name: usize,
    pub(super) id: LogId,
    pub(super) epoch: LeaderEpoch,
    pub(super) disk: MemoryDisk,
    pub(super) log: Log<MemoryDisk>,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    pub(super) tasks: LocalTasks,
    pub(super) allowed: Allowed,
    pub(super) settings: Rc<RefCell<TopicSettings>>,
    /// Whether write caching was ever on in this life.
    pub(super) cached: Rc<Cell<bool>>,
    /// Appends under way; a truncation waits until there are none.
    pub(super) appending: Rc<Cell<u32>>,
    /// A truncation waits or runs; appends wait.
    pub(super) closed: Rc<Cell<bool>>,
    pub(super) writing: Rc<Cell<bool>>,
}

impl Subject {
    /// Starts the one writer if there is something to write, as a shard does.
    pub(super) fn kick(&self) {
        if self.writing.get() || !self.log.wants_writer() {
            return;
        }
        self.writing.set(true);
        let subject = self.clone();
        self.tasks.spawn(async move {
            while subject.log.wants_writer() {
                subject.log.write_pending().await;
                if subject.log.wants_space() {
                    let log = subject.log.clone();
                    subject
                        .tasks
                        .spawn(async move { log.prepare_space().await });
                }
            }
            subject.writing.set(false);
        });
    }

    /// Looks at everything that the log shows, and holds it against the ledger.
    pub(super) fn observe(&self) -> Result<(), Violation> {
        let (start, durable) = (self.log.log_start().0, self.log.durable_end().0);
        let (ack, readable) = (self.log.ack_end().0, self.log.readable_end().0);
        let accepted = self.log.accepted_end().0;
        let mut ledger = self.ledger.borrow_mut();
        ensure!(
            readable <= ack,
            "readable to {readable}, acknowledged only to {ack}"
        );
        ensure!(
            ack <= accepted,
            "acknowledges to {ack}, accepted only to {accepted}"
        );
        if accepted < ledger.end() && !self.is_damaged() {
            ensure!(
                self.may_drop(),
                "the end went back to {accepted} from {}",
                ledger.end()
            );
            ledger.drop_from(accepted)?;
        }
        if !self.is_damaged() {
            ledger.seen(start, durable, ack)?;
        }
        match self.log.latched() {
            Some(Latch::Failed(why)) => {
                ensure!(
                    self.allowed.errors || ledger.is_rotten(),
                    "failed without a fault: {why}"
                );
            }
            Some(Latch::Full) => ensure!(self.allowed.full, "full without a fault"),
            Some(Latch::Damaged { offset, .. }) => {
                ensure!(ledger.is_rotten(), "damaged at {offset} without rot");
            }
            None => {}
        }
        Ok(())
    }

    /// Appends a frame and holds the answer against the ledger.
    pub(super) fn append(&self, frame: &[u8], sent: &Sent) -> Result<Appended, AppendFailure> {
        let chunks = self.in_chunks(frame);
        let epoch = self.epoch.0;
        let appended = match self.log.append(self.world.now(), &chunks) {
            Ok(appended) => appended,
            Err(error) => return Err(AppendFailure::Refused(error.code(), error.to_string())),
        };
        let (base, next) = (appended.base_offset.0, appended.next_offset.0);
        if !appended.duplicate {
            let mut ledger = self.ledger.borrow_mut();
            let accepted = ledger.accepted((base, next), epoch, sent.clone(), self.may_drop());
            accepted.map_err(AppendFailure::Violation)?;
            if self.retains() {
                ledger.may_start_at(next);
            }
        }
        trace!(
            self.world,
            "{} appended {base}..{next}{}",
            self.name,
            if appended.duplicate { " again" } else { "" }
        );
        self.kick();
        Ok(appended)
    }

    /// Waits until what ends at `next` is acknowledged, or never will be.
    pub(super) async fn acknowledged(&self, next: Offset) -> Result<bool, Violation> {
        let cuts = self.ledger.borrow().cuts();
        loop {
            self.observe()?;
            let gone = next.0 > self.ledger.borrow().end();
            if gone || self.ledger.borrow().cuts() != cuts {
                return Ok(false);
            }
            if self.log.ack_end() >= next {
                if !self.cached.get() {
                    self.ledger.borrow_mut().promised(next.0);
                }
                trace!(self.world, "{} acknowledged {next}", self.name);
                return Ok(true);
            }
            if self.log.latched().is_some() {
                return Ok(false);
            }
            self.kick();
            self.log.changed().await;
        }
    }

    /// Waits until no truncation waits or runs, then counts as an append under way.
    pub(super) async fn enter(&self) {
        while self.closed.get() {
            self.wait().await;
        }
        self.appending.set(self.appending.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.appending.set(self.appending.get() - 1);
    }

    /// Keeps appends out, and waits until none is under way.
    pub(super) async fn close(&self) {
        while self.closed.get() {
            self.wait().await;
        }
        self.closed.set(true);
        while self.appending.get() > 0 {
            self.wait().await;
        }
    }

    /// Lets others run, and waits for ever once the disk has stopped.
    async fn wait(&self) {
        if self.disk.is_crashed() {
            std::future::pending::<()>().await;
        }
        yield_now().await;
    }

    /// Whether a refusal with this code needs no other reason than the log's state.
    pub(super) fn excused(&self, code: ErrorCode) -> bool {
        match code {
            ErrorCode::KafkaStorageError => self.log.latched().is_some(),
            ErrorCode::ThrottlingQuotaExceeded => true,
            _ => false,
        }
    }

    /// Whether a truncation is under way, or failed half-way: then what stands above its
    /// place may be gone from the files.
    pub(super) fn is_truncating(&self) -> bool {
        self.closed.get() || self.ledger.borrow().is_truncating()
    }

    /// Whether the log says that it is damaged, and so serves less than it holds.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self.log.latched(), Some(Latch::Damaged { .. }))
    }

    /// Adds to the trace where the log stands.
    pub(super) fn trace_positions(&self) {
        let log = &self.log;
        trace!(
            self.world,
            "{} stands: start {}, durable {}, acknowledged {}, readable {}, accepted {}, {:?}, \
             wants a writer: {}",
            self.name,
            log.log_start(),
            log.durable_end(),
            log.ack_end(),
            log.readable_end(),
            log.accepted_end(),
            log.latched(),
            log.wants_writer()
        );
    }

    /// Whether retention may move the log start.
    pub(super) fn retains(&self) -> bool {
        let settings = self.settings.borrow();
        settings.retention_ms.is_some() || settings.retention_bytes.is_some()
    }

    /// Whether a fault of this life may make the log give up what it has not written.
    fn may_drop(&self) -> bool {
        self.allowed.full || self.allowed.errors
    }

    fn in_chunks(&self, frame: &[u8]) -> Vec<bytes::Bytes> {
        let at = self.world.below(frame.len() as u64) as usize;
        let (first, second) = frame.split_at(at);
        let chunks = [first, second].map(bytes::Bytes::copy_from_slice);
        chunks
            .into_iter()
            .filter(|chunk| !chunk.is_empty())
            .collect()
    }
}

/// Why an append did not happen.
#[derive(Debug)]
pub(super) enum AppendFailure {
    Refused(ErrorCode, String),
    Violation(Violation),
}
