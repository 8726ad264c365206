//! Notices a shard that does not yield, and says what it does instead.
//!
//! A thread of its own looks at the pulse of each shard a few times in the time that a task may run, which is
//! `shard.stall.ms`. A turn that is odd and has not changed for so long is a stall: it is counted, and logged
//! with the name of the work and the log that it is about, once when it is noticed and once when it is over. So
//! a stall that ends between two looks may go unseen, if it is not much longer than the bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_model::ShardId;
use millrace_net::pulse::{Doing, Pulse};

/// Looks in the time that a task may run.
const LOOKS: u32 = 4;

/// The shortest pause between two looks, whatever the bound: the watchdog must not be work itself.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// The thread that watches; it ends with this.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Dropped to end the thread.
    _stop: flume::Sender<()>,
}

/// What the watchdog has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A task has run for so long, and still runs.
    Stalled(ShardId, Doing, Duration),
    /// The one before has yielded, after about so long.
    WentOn(ShardId, Doing, Duration),
}

/// What is known of a shard from earlier looks.
#[derive(Clone, Copy, Debug)]
struct Known {
    turn: u64,
    since: Instant,
    /// What it did when it was found to have stalled.
    stalled: Option<Doing>,
}

impl Watchdog {
    /// Watches these shards, the first of which is shard 0, and gives `tell` what it sees.
    pub(crate) fn start(
        pulses: Vec<Arc<Pulse>>,
        bound: Duration,
        mut tell: impl FnMut(Sight) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = flume::bounded::<()>(0);
        let pause = (bound / LOOKS).max(SHORTEST_PAUSE);
        let watch = move || {
            let mut known: Vec<Option<Known>> = vec![None; pulses.len()];
            // Nothing is ever sent: the channel ends with the watchdog.
            while stopped.recv_timeout(pause) == Err(flume::RecvTimeoutError::Timeout) {
                let now = Instant::now();
                for ((shard, pulse), known) in (0..).zip(&pulses).zip(&mut known) {
                    if let Some(sight) = look(ShardId(shard), pulse, known, now, bound) {
                        tell(sight);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        // Not joined: it ends within a pause, and touches nothing that goes before.
        thread.spawn(watch)?;
        Ok(Self { _stop: stop })
    }
}

/// Looks at a shard.
fn look(
    shard: ShardId,
    pulse: &Pulse,
    known: &mut Option<Known>,
    now: Instant,
    bound: Duration,
) -> Option<Sight> {
    let (turn, doing) = (pulse.turn(), pulse.doing());
    let runs = turn % 2 == 1 && pulse.turn() == turn;
    if let Some(same) = known.as_mut().filter(|known| known.turn == turn) {
        let lasts = now.saturating_duration_since(same.since);
        if !runs || same.stalled.is_some() || lasts < bound {
            return None;
        }
        same.stalled = Some(doing);
        pulse.count_stall();
        return Some(Sight::Stalled(shard, doing, lasts));
    }
    let before = known.replace(Known {
        turn,
        since: now,
        stalled: None,
    });
    let before = before?;
    let lasted = now.saturating_duration_since(before.since);
    before
        .stalled
        .map(|doing| Sight::WentOn(shard, doing, lasted))
}

/// Logs what the watchdog has seen.
pub(crate) fn log(sight: Sight) {
    let field = tracing::field::display;
    match sight {
        Sight::Stalled(shard, doing, lasts) => tracing::warn!(
            %shard,
            task = doing.work.name(),
            log = doing.log.map(field),
            stalled_ms = lasts.as_millis(),
            "a task does not yield, and its shard does nothing else"
        ),
        Sight::WentOn(shard, doing, lasted) => tracing::warn!(
            %shard,
            task = doing.work.name(),
            log = doing.log.map(field),
            stalled_ms = lasted.as_millis(),
            "the task has yielded, its shard goes on"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::shard::executor;
    use glommio::Placement;
    use millrace_model::{LogId, PartitionId, TopicId};
    use millrace_net::pulse::{self, Work, named};

    const BOUND: Duration = Duration::from_millis(40);
    const LOG: LogId = LogId {
        topic: TopicId([5; 16]),
        partition: PartitionId(3),
    };

    /// Longer than anything takes that is not broken.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A shard on which a task sits in a system call until the watchdog has noticed, and a second one that
    /// sleeps.
    #[test]
    fn a_task_that_does_not_yield_is_named() {
        let pulses = vec![Arc::new(Pulse::default()), Arc::new(Pulse::default())];
        let (tell, seen) = flume::unbounded();
        let (noticed, notice) = flume::bounded::<()>(1);
        let tell = move |sight| tell.send(sight).unwrap();
        let _watchdog = Watchdog::start(pulses.clone(), BOUND, tell).unwrap();
        let mut pulses = pulses.into_iter();
        let (idle, stalling) = (pulses.next().unwrap(), pulses.next().unwrap());
        let (wake, woken) = flume::bounded::<()>(0);
        let sleeper = executor(Placement::Unbound)
            .io_memory(64 << 10)
            .spawn(|| async move {
                pulse::install(idle);
                named(
                    Work::Foreground,
                    async move { woken.recv_async().await.ok() },
                )
                .await;
            });
        let counted = Arc::clone(&stalling);
        let staller = executor(Placement::Unbound)
            .io_memory(64 << 10)
            .spawn(|| async move {
                pulse::install(stalling);
                let stall = async move { notice.recv_timeout(PATIENCE).unwrap() };
                glommio::spawn_local(named(Work::RemoveLog.on(LOG), stall)).await;
            });
        let Sight::Stalled(shard, doing, lasts) = seen.recv_timeout(PATIENCE).unwrap() else {
            panic!("it cannot go on before it has stalled");
        };
        assert_eq!((shard, doing), (ShardId(1), Work::RemoveLog.on(LOG)));
        assert!(lasts >= BOUND);
        noticed.send(()).unwrap();
        let Sight::WentOn(shard, doing, _) = seen.recv_timeout(PATIENCE).unwrap() else {
            panic!("a stall is told once");
        };
        assert_eq!((shard, doing), (ShardId(1), Work::RemoveLog.on(LOG)));
        assert_eq!(counted.stalls(), 1);
        drop(wake);
        staller.unwrap().join().unwrap();
        sleeper.unwrap().join().unwrap();
        assert!(seen.is_empty(), "one that sleeps has not stalled");
    }
}
