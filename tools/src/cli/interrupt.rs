//! Ctrl-C: the first asks a command to end in good order, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::exit::Exit;

/// How long good order may take. A command that hangs in a write to a pipe that nobody reads
/// never gets there.
const GRACE: Duration = Duration::from_secs(5);

/// Whether Ctrl-C was pressed.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    pressed: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Interrupt {
    /// Takes Ctrl-C over from the system, for the rest of the process.
    pub(super) fn listen() -> Self {
        let interrupt = Self::default();
        let ours = interrupt.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            ours.pressed.store(true, Ordering::Relaxed);
            ours.wake.notify_one();
            let _ = tokio::time::timeout(GRACE, tokio::signal::ctrl_c()).await;
            std::process::exit(Exit::Interrupted as i32);
        });
        interrupt
    }

    /// Whether it was pressed.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Waits until it is pressed; at once when it was. For one waiter.
    pub(super) async fn pressed(&self) {
        while !self.is_pressed() {
            self.wake.notified().await;
        }
    }
}
