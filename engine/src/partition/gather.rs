//! Small writes that nobody waits for, gathered into one.
//!
//! With `write.caching` a frame is acknowledged before it is written, and one written at once costs the producer of the
//! next: the device's interrupts and the kernel's threads want a core. So the writer of a log waits for a moment,
//! unless somebody waits to read what it will write, or there is a write's worth already.
//!
//! What is acknowledged is durable within `flush.ms` as before, for that counts from when it was accepted.

use std::cell::Cell;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::sleep;

use super::PartitionLog;
use crate::shard::notice::Notice;

/// How long a write is held back at most: a fraction of the shortest sensible `flush.ms`, and several times what a
/// producer that sends one record at a time needs for one.
const HOLD: Duration = Duration::from_millis(1);

/// As much is written at once: a device takes it about as fast as any larger write.
const ENOUGH_BYTES: usize = 128 << 10;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Gathering {
    is_held: Cell<bool>,
    enough: Notice,
}

impl Gathering {
    /// Waits while the next write of the log is better not begun.
    pub(super) async fn hold(&self, log: &PartitionLog) {
        if log.pending_bytes() >= ENOUGH_BYTES {
            return;
        }
        self.is_held.set(true);
        let enough = self.enough.notified();
        or(or(log.awaited(), enough), async {
            sleep(HOLD).await;
        })
        .await;
        self.is_held.set(false);
    }

    /// Something was appended.
    pub(super) fn appended(&self, log: &PartitionLog) {
        if self.is_held.get() && log.pending_bytes() >= ENOUGH_BYTES {
            self.enough.notify();
        }
    }
}
