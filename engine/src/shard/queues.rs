//! The latency classes of a shard's work.

use std::future::Future;
use std::time::Duration;

use glommio::{Latency, Shares, TaskQueueHandle};

/// Shares of the core when all classes have work. Foreground work is what clients wait for;
/// the others get enough to come on.
const FOREGROUND_SHARES: usize = 1000;
const CATCH_UP_SHARES: usize = 200;
const BACKGROUND_SHARES: usize = 50;

/// How long other work may run before foreground work gets its turn: a few datagrams'
/// worth.
const FOREGROUND_LATENCY: Duration = Duration::from_millis(1);

/// One task queue a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queues {
    /// Network, sessions, append.
    pub(crate) foreground: TaskQueueHandle,
    /// Reads from the device, recovery of a log that somebody waits for.
    pub(crate) catch_up: TaskQueueHandle,
    /// Retention, removal, recovery ahead of use.
    pub(crate) background: TaskQueueHandle,
}

const LIVES: &str = "the shard's task queues live as long as its executor";

impl Queues {
    /// Makes the queues on the current executor.
    pub(crate) fn create() -> Self {
        let executor = glommio::executor();
        let queue = |shares, latency, name| {
            executor.create_task_queue(Shares::Static(shares), latency, name)
        };
        Self {
            foreground: queue(
                FOREGROUND_SHARES,
                Latency::Matters(FOREGROUND_LATENCY),
                "foreground",
            ),
            catch_up: queue(CATCH_UP_SHARES, Latency::NotImportant, "catch-up"),
            background: queue(BACKGROUND_SHARES, Latency::NotImportant, "background"),
        }
    }

    /// Runs a task in the foreground, detached.
    pub(crate) fn foreground(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(task, self.foreground)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task in the background, detached.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(task, self.background)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task among the cold reads, detached.
    pub(crate) fn catch_up_detached(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(task, self.catch_up)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task among the cold reads. Dropping the future cancels the task.
    pub(crate) async fn catch_up<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        glommio::spawn_local_into(task, self.catch_up)
            .expect(LIVES)
            .await
    }
}
