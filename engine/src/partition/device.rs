//! How long a shard stays awake for a write that somebody waits for.
//!
//! It is learnt from all writes of the shard, so a slow device, or a load of large writes, is slept through.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use millrace_model::Offset;
use millrace_net::{Patience, Spinner};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DeviceWatch {
    spinner: Rc<Spinner>,
    patience: Patience,
}

/// The writes of a log, one after the other, as they are looked at.
pub(super) struct Writes<'a> {
    device: &'a DeviceWatch,
    /// How far the log was written when it was last looked at, and since when.
    written: Cell<(Offset, Instant)>,
}

impl DeviceWatch {
    pub(crate) fn new(spinner: Rc<Spinner>) -> Self {
        let patience = Patience::new(spinner.spin());
        Self { spinner, patience }
    }

    /// A log that has written up to `end` begins to write.
    pub(super) fn begin(&self, end: Offset) -> Writes<'_> {
        Writes {
            device: self,
            written: Cell::new((end, Instant::now())),
        }
    }
}

impl Writes<'_> {
    /// The log has written up to `end`.
    pub(super) fn reached(&self, end: Offset) {
        let (before, since) = self.written.get();
        if before != end {
            let now = Instant::now();
            self.device.patience.took(now - since);
            self.written.set((end, now));
        }
    }

    /// Somebody waits for the write that begins now.
    pub(super) fn is_awaited(&self) {
        if let Some(time) = self.device.patience.next() {
            self.device.spinner.expect_within(time);
        }
    }
}
