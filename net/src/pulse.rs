//! What a shard is doing, for whoever must say why it does nothing else.
//!
//! An executor of one thread goes on only when its task yields. A task that does not (a file removed on a slow
//! disk in a system call, a loop without end) stops a whole shard, and nothing on that shard can tell. So each
//! task is given a name ([`named`]); when the executor polls it, the name and the log that it works on
//! are put into the shard's [`Pulse`], and the pulse's turn is raised before and after. A watchdog on a thread
//! of its own looks at the turns now and then: one that is odd and stays the same is a task that does not yield.
//!
//! The cost is a few plain stores a poll: the pulse has one writer, its shard, and nobody else touches its memory but
//! the watchdog when it looks. There is no clock, no timer and no wake-up in it, so an idle shard sleeps on.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::task::{Context, Poll};

use millrace_model::{LogId, PartitionId, TopicId};

macro_rules! works {
    ($($name:ident = $text:literal,)*) => {
        /// A kind of work, as a person calls it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Work {
            $(#[doc = $text] $name,)*
        }

        impl Work {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

works! {
    Foreground = "a foreground task",
    CatchUp = "a cold read",
    Background = "a background task",
    Quic = "QUIC",
    Http = "HTTP",
    Control = "a control request",
    Produce = "a produce stream",
    Consume = "a consume stream",
    KafkaConnection = "a Kafka connection",
    KafkaRequest = "a Kafka request",
    Inbox = "messages of other shards",
    Returns = "pages that other shards have read",
    WriteLog = "writing a log",
    PrepareSpace = "preparing space of a log",
    OpenLog = "opening a log",
    RemoveLog = "removing a log",
    Retention = "retention",
    Latencies = "copying latencies",
    Coordinator = "a coordinator of groups",
    Controller = "the controller",
    Peers = "talking to other brokers",
}

/// What a task does: a kind of work, and the log that it is about if it is about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// The kind.
    pub work: Work,
    /// The log.
    pub log: Option<LogId>,
}

impl From<Work> for Doing {
    fn from(work: Work) -> Self {
        Self { work, log: None }
    }
}

impl Work {
    /// This kind of work on a log.
    #[must_use]
    pub fn on(self, log: LogId) -> Doing {
        let (work, log) = (self, Some(log));
        Doing { work, log }
    }
}

/// Stands for no partition.
const NO_PARTITION: u32 = u32::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub struct Pulse {
    /// Odd while a task runs.
    turn: AtomicU64,
    work: AtomicU8,
    partition: AtomicU32,
    topic: [AtomicU64; 2],
    /// Stalls that the watchdog has seen.
    stalls: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            turn: AtomicU64::new(0),
            work: AtomicU8::new(0),
            partition: AtomicU32::new(NO_PARTITION),
            topic: Default::default(),
            stalls: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// Which turn it is: odd while a task runs, another one for each task that is polled.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn.load(Acquire)
    }

    /// What the task that runs does. Means something only to whoever finds the same turn before and after.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.shown().into()
    }

    /// The watchdog has seen the shard stall.
    pub fn count_stall(&self) {
        self.stalls.fetch_add(1, Relaxed);
    }

    /// How often it has.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    fn set(&self, shown: Shown) {
        self.work.store(shown.work, Relaxed);
        self.partition.store(shown.partition, Relaxed);
        if shown.partition != NO_PARTITION {
            self.topic[0].store(shown.topic[0], Relaxed);
            self.topic[1].store(shown.topic[1], Relaxed);
        }
    }

    fn shown(&self) -> Shown {
        Shown {
            work: self.work.load(Relaxed),
            partition: self.partition.load(Relaxed),
            topic: [self.topic[0].load(Relaxed), self.topic[1].load(Relaxed)],
        }
    }

    fn enter(&self, shown: Shown) -> Entered {
        let turn = self.turn.load(Relaxed);
        if turn % 2 == 1 {
            let outer = self.shown();
            self.set(shown);
            return Entered::Inside(outer);
        }
        self.set(shown);
        self.turn.store(turn + 1, Release);
        Entered::First(turn + 2)
    }

    fn leave(&self, entered: Entered) {
        match entered {
            Entered::First(next) => self.turn.store(next, Release),
            Entered::Inside(outer) => self.set(outer),
        }
    }
}

/// How a task began to run.
enum Entered {
    /// By itself; this is the turn after it.
    First(u64),
    /// Inside of another, which does this.
    Inside(Shown),
}

/// [`Doing`] as a pulse shows it.
#[derive(Clone, Copy, Debug)]
struct Shown {
    work: u8,
    partition: u32,
    topic: [u64; 2],
}

impl From<Doing> for Shown {
    fn from(Doing { work, log }: Doing) -> Self {
        let log = log.unwrap_or(LogId {
            topic: TopicId([0; 16]),
            partition: PartitionId(NO_PARTITION),
        });
        let (first, second) = log.topic.0.split_at(8);
        let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of 16"));
        Self {
            work: work as u8,
            partition: log.partition.0,
            topic: [half(first), half(second)],
        }
    }
}

impl From<Shown> for Doing {
    fn from(shown: Shown) -> Self {
        let log = (shown.partition != NO_PARTITION).then(|| {
            let mut topic = [0; 16];
            topic[..8].copy_from_slice(&shown.topic[0].to_le_bytes());
            topic[8..].copy_from_slice(&shown.topic[1].to_le_bytes());
            LogId {
                topic: TopicId(topic),
                partition: PartitionId(shown.partition),
            }
        });
        let work = Work::ALL[usize::from(shown.work)];
        Self { work, log }
    }
}

thread_local! {
    static PULSE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

/// The tasks that are made on this thread from now on have this pulse.
pub fn install(pulse: Arc<Pulse>) {
    PULSE.set(Some(pulse));
}

/// A task with a name, for the pulse of the thread that calls this. Without a pulse it is the task itself.
pub fn named<F: Future>(doing: impl Into<Doing>, task: F) -> Named<F> {
    Named {
        pulse: PULSE.with_borrow(Option::clone),
        shown: Shown::from(doing.into()),
        task,
    }
}

/// See [`named`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Named<F> {
    pulse: Option<Arc<Pulse>>,
    shown: Shown,
    task: F,
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `task` is pinned with the whole: nothing moves it out, there is no `Drop`, and `Named` is
        // `Unpin` only if it is. The other fields are never pinned.
        let (pulse, shown, task) = unsafe {
            let this = self.get_unchecked_mut();
            (&this.pulse, this.shown, Pin::new_unchecked(&mut this.task))
        };
        let Some(pulse) = pulse else {
            return task.poll(cx);
        };
        let entered = pulse.enter(shown);
        let outcome = task.poll(cx);
        pulse.leave(entered);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    const LOG: LogId = LogId {
        topic: TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        partition: PartitionId(7),
    };

    #[test]
    fn the_pulse_says_what_runs_and_only_while_it_runs() {
        let pulse = Arc::new(Pulse::default());
        install(Arc::clone(&pulse));
        let seen = Arc::clone(&pulse);
        let task = named(Work::Produce.on(LOG), async move {
            assert_eq!(seen.turn(), 1);
            assert_eq!(seen.doing(), Work::Produce.on(LOG));
            yield_now().await;
            assert_eq!(seen.turn(), 3, "another poll is another turn");
        });
        block_on(task);
        assert_eq!(pulse.turn(), 4);
    }

    #[test]
    fn a_task_inside_of_another_has_its_own_name_meanwhile() {
        let pulse = Arc::new(Pulse::default());
        install(Arc::clone(&pulse));
        let seen = Arc::clone(&pulse);
        block_on(named(Work::Foreground, async {
            named(Work::WriteLog.on(LOG), async {
                assert_eq!(seen.doing(), Work::WriteLog.on(LOG));
            })
            .await;
            assert_eq!(seen.doing(), Work::Foreground.into());
            assert_eq!(seen.turn(), 1, "it is one turn");
        }));
        assert_eq!(pulse.turn(), 2);
    }

    #[test]
    fn works_have_the_numbers_that_they_are_kept_as() {
        for (at, work) in Work::ALL.iter().enumerate() {
            assert_eq!(*work as usize, at);
        }
    }
}
