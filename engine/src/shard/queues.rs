//! The latency classes of a shard's work.

use std::future::Future;

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use millrace_net::PREEMPTION_TIMER;
use millrace_net::pulse::{Work, named};

/// Shares of the core when all classes have work. Foreground work is what clients wait for;
/// the others get enough to come on.
const FOREGROUND_SHARES: usize = 1000;
const CATCH_UP_SHARES: usize = 200;
const BACKGROUND_SHARES: usize = 50;

/// The executor of a shard, as far as its scheduling goes.
pub(crate) fn executor(placement: Placement) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement).preempt_timer(PREEMPTION_TIMER)
}

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
        // That latency matters makes a message of another thread end the turn of a queue. The
        // duration is that of the preemption timer.
        let foreground = Latency::Matters(PREEMPTION_TIMER);
        Self {
            foreground: queue(FOREGROUND_SHARES, foreground, "foreground"),
            catch_up: queue(CATCH_UP_SHARES, Latency::NotImportant, "catch-up"),
            background: queue(BACKGROUND_SHARES, Latency::NotImportant, "background"),
        }
    }

    /// Runs a task in the foreground, detached.
    pub(crate) fn foreground(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(named(Work::Foreground, task), self.foreground)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task in the background, detached.
    pub(crate) fn background(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(named(Work::Background, task), self.background)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task among the cold reads, detached.
    pub(crate) fn catch_up_detached(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(named(Work::CatchUp, task), self.catch_up)
            .expect(LIVES)
            .detach();
    }

    /// Runs a task among the cold reads. Dropping the future cancels the task.
    pub(crate) async fn catch_up<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        glommio::spawn_local_into(named(Work::CatchUp, task), self.catch_up)
            .expect(LIVES)
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::time::{Duration, Instant};

    /// Questions asked. With a preemption timer of 1 ms one in a thousand is lost.
    const QUESTIONS: usize = 3000;

    /// Microseconds from a question to its answer, seldom more.
    const LONGEST_WAY: u64 = 150;

    /// For how long the thread is kept from running at a time: more than its tasks may go on
    /// before others get their turn.
    static HOLD: libc::timespec = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_500_000,
    };

    extern "C" fn hold(_: libc::c_int) {
        // SAFETY: `nanosleep` may be called in a signal handler, and only reads what it is given.
        unsafe { libc::nanosleep(&raw const HOLD, std::ptr::null_mut()) };
    }

    fn handle_signal() {
        let handler: extern "C" fn(libc::c_int) = hold;
        // SAFETY: the handler touches nothing of the process.
        let before = unsafe { libc::signal(libc::SIGUSR2, handler as libc::sighandler_t) };
        assert_ne!(before, libc::SIG_ERR);
    }

    /// Keeps a thread from running, from some point of its way from sleep to answer.
    fn disturb(thread: libc::pid_t) {
        let until = Instant::now() + Duration::from_micros(fastrand::u64(..LONGEST_WAY));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        // SAFETY: a system call with plain numbers; the thread lives as long as the test.
        unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR2) };
    }

    /// An executor that loses its core at the wrong moment must not sleep on work.
    #[test]
    fn a_thread_that_is_kept_from_running_still_answers() {
        handle_signal();
        let (ask, asked) = flume::unbounded::<flume::Sender<libc::pid_t>>();
        let executor = executor(Placement::Unbound)
            .io_memory(64 << 10)
            .spawn(|| async move {
                let answering = async move {
                    while let Ok(answer) = asked.recv_async().await {
                        // SAFETY: a system call without arguments.
                        answer.send(unsafe { libc::gettid() }).ok();
                    }
                };
                let foreground = Queues::create().foreground;
                glommio::spawn_local_into(answering, foreground)
                    .unwrap()
                    .await;
            })
            .unwrap();
        let question = |thread| {
            let (answer, answered) = flume::bounded(1);
            ask.send(answer).unwrap();
            if let Some(thread) = thread {
                disturb(thread);
            }
            // Nothing else wakes the executor.
            answered.recv_timeout(Duration::from_secs(10))
        };
        let thread = question(None).unwrap();
        let lost = (0..QUESTIONS).find(|_| question(Some(thread)).is_err());
        assert_eq!(lost, None, "this question was never answered");
        drop(ask);
        executor.join().unwrap();
    }
}
