//! Gathers the fates of the batches of one Produce request.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use millrace_model::ErrorCode;

use crate::lane::{Outcome, Place, Settle};
use crate::shard::Refusal;
use crate::shard::notice::Signal;
use crate::trace::Trace;

/// What became of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) code: ErrorCode,
    /// Offset of the first record, if it was stored.
    pub(crate) base_offset: u64,
    /// The broker's clock at the append.
    pub(crate) append_timestamp: i64,
    pub(crate) log_start: u64,
    /// Why it was refused, for a person.
    pub(crate) message: Option<String>,
    /// Where its time went until it was stored, and when it was; `None` if it was refused before that.
    pub(crate) settled: Option<(Trace, Instant)>,
}

impl From<Refusal> for Fate {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            base_offset: 0,
            append_timestamp: -1,
            log_start: 0,
            message: Some(refusal.message),
            settled: None,
        }
    }
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        let ack = outcome.ack;
        Self {
            code: ack.error(),
            base_offset: ack.base_offset.0,
            append_timestamp: ack.append_timestamp.0,
            log_start: ack.log_start.0,
            message: None,
            settled: Some((outcome.trace, outcome.due)),
        }
    }
}

/// One place for each batch. See the module's documentation.
pub(crate) struct Gather {
    fates: RefCell<Vec<Option<Fate>>>,
    missing: Cell<usize>,
    complete: Signal<()>,
    /// The last batch that was stored.
    last: Cell<Option<Last>>,
}

/// The batch that a request waited for longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// Its place.
    pub(super) place: Place,
    /// Where its time went until it was stored.
    pub(super) trace: Trace,
    /// When it was.
    pub(super) due: Instant,
}

impl Gather {
    pub(crate) fn new(count: usize) -> Self {
        let complete = Signal::default();
        if count == 0 {
            complete.raise(());
        }
        Self {
            fates: RefCell::new(vec![None; count]),
            missing: Cell::new(count),
            complete,
            last: Cell::new(None),
        }
    }

    /// The batch of this place was not stored.
    pub(crate) fn refuse(&self, place: Place, refusal: Refusal) {
        self.set(place, refusal.into());
    }

    /// Says what became of the batch of this place.
    pub(crate) fn set(&self, place: Place, fate: Fate) {
        if let Some((trace, due)) = fate.settled
            && self.last.get().is_none_or(|last| last.due <= due)
        {
            self.last.set(Some(Last { place, trace, due }));
        }
        let at = usize::try_from(place.0).expect("places are few");
        let before = self.fates.borrow_mut()[at].replace(fate);
        assert!(before.is_none(), "a place is settled once");
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            self.complete.raise(());
        }
    }

    /// Resolves once the fate of every batch is known.
    pub(crate) async fn complete(&self) {
        self.complete.wait().await;
    }

    /// The fates in order of their places; `None` where it is not known yet.
    pub(crate) fn fates(&self) -> Vec<Option<Fate>> {
        self.fates.borrow().clone()
    }

    /// The last batch that was stored, of all shards.
    pub(super) fn last(&self) -> Option<Last> {
        self.last.get()
    }
}

impl Settle for Gather {
    fn settle(&self, place: Place, outcome: Outcome) {
        self.set(place, outcome.into());
    }
}
