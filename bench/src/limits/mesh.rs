//! A question from one executor to another and the answer back, as shards ask each other: a bounded
//! channel into the inbox, and a channel made for the one answer. For comparison, the same by
//! glommio's own channels, of one sender and one receiver each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::channels::shared_channel::{self, SharedReceiver, SharedSender};
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use millrace_net::{PREEMPTION_TIMER, Spinner};

use super::{Item, Probe};
use crate::BenchError;
use crate::measure::Latencies;

/// As a shard's inbox has.
const INBOX_SLOTS: usize = 1024;

/// How long an executor stays awake after a message, where it is not to sleep: longer than the
/// answer takes.
const AWAKE: Duration = Duration::from_millis(1);

/// A question: where its answer goes.
type Question = flume::Sender<()>;

/// One item.
pub(super) fn measure(probe: Probe, time: Duration) -> Result<Item, BenchError> {
    let spin = match probe {
        Probe::MeshAwake => AWAKE,
        Probe::MeshAsleep => Duration::ZERO,
        other => panic!("{} is not of the mesh", other.name()),
    };
    let latencies = round_trips(spin, move |_, since| since >= time)?;
    Ok(Item::latency(probe, &latencies))
}

/// What executors talk over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshBy {
    /// As the broker's shards do.
    Flume,
    /// glommio's shared channels.
    SharedChannels,
}

/// Whether executors sleep while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshRest {
    /// They go round.
    Awake,
    /// They sleep in the kernel.
    Asleep,
}

/// How long so many questions and answers take together.
///
/// # Errors
/// An executor does not start.
pub fn mesh_round_trips(by: MeshBy, rest: MeshRest, count: u64) -> Result<Duration, BenchError> {
    let (tell, told) = flume::bounded(1);
    let done = move |asked: u64, since: Duration| {
        let done = asked == count;
        if done {
            let _ = tell.try_send(since);
        }
        done
    };
    let spin = match rest {
        MeshRest::Awake => AWAKE,
        MeshRest::Asleep => Duration::ZERO,
    };
    match by {
        MeshBy::Flume => round_trips(spin, done).map(drop)?,
        MeshBy::SharedChannels => shared_round_trips(spin, done)?,
    }
    told.try_recv()
        .map_err(|_| BenchError::Limits("an executor of the mesh has ended".to_owned()))
}

/// Asks until `done` says so, of the number of answers and the time since the start.
fn round_trips(
    spin: Duration,
    done: impl FnMut(u64, Duration) -> bool + Send + 'static,
) -> Result<Latencies, BenchError> {
    let (inbox, asked) = flume::bounded::<Question>(INBOX_SLOTS);
    let refused = |error: &dyn std::fmt::Display| BenchError::Limits(error.to_string());
    let answering = executor("answers").spawn(move || async move {
        let queue = foreground();
        let spinner = Spinner::new(spin, queue);
        in_queue(queue, answer(asked, spinner)).await;
    });
    let answering = answering.map_err(|error| refused(&error))?;
    let asking = executor("asks").spawn(move || async move {
        let queue = foreground();
        let spinner = Spinner::new(spin, queue);
        in_queue(queue, ask(inbox, spinner, done)).await
    });
    let latencies = asking
        .map_err(|error| refused(&error))?
        .join()
        .map_err(|error| refused(&error))?;
    answering.join().map_err(|error| refused(&error))?;
    Ok(latencies)
}

/// An executor as a shard has.
pub(super) fn executor(name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPTION_TIMER)
        .io_memory(IO_MEMORY)
        .name(name)
}

/// Memory that an executor registers with its ring; nothing here reads a file through it.
const IO_MEMORY: usize = 64 << 10;

/// The queue that a shard serves clients in.
pub(super) fn foreground() -> TaskQueueHandle {
    let latency = Latency::Matters(PREEMPTION_TIMER);
    glommio::executor().create_task_queue(Shares::Static(1000), latency, "foreground")
}

/// Runs a task in the queue and waits for it.
pub(super) async fn in_queue<T: 'static>(
    queue: TaskQueueHandle,
    task: impl Future<Output = T> + 'static,
) -> T {
    glommio::spawn_local_into(task, queue)
        .expect("the queue was made on this executor")
        .await
}

async fn answer(asked: flume::Receiver<Question>, spinner: Rc<Spinner>) {
    while let Ok(question) = asked.recv_async().await {
        spinner.active();
        let _ = question.try_send(());
    }
}

async fn ask(
    inbox: flume::Sender<Question>,
    spinner: Rc<Spinner>,
    mut done: impl FnMut(u64, Duration) -> bool,
) -> Latencies {
    let (mut latencies, began) = (Latencies::default(), Instant::now());
    let mut count = 0;
    while !done(count, began.elapsed()) {
        spinner.active();
        let asked = Instant::now();
        let (reply, answered) = flume::bounded(1);
        if inbox.send_async(reply).await.is_err() || answered.recv_async().await.is_err() {
            break; // the other has ended, and says why when it is joined
        }
        latencies.record(asked.elapsed());
        count += 1;
    }
    latencies
}

/// As [`round_trips`], by glommio's channels: one there, one back.
fn shared_round_trips(
    spin: Duration,
    done: impl FnMut(u64, Duration) -> bool + Send + 'static,
) -> Result<(), BenchError> {
    let (to, asked) = shared_channel::new_bounded(INBOX_SLOTS);
    let (answers, from) = shared_channel::new_bounded(INBOX_SLOTS);
    let refused = |error: &dyn std::fmt::Display| BenchError::Limits(error.to_string());
    let answering = executor("answers").spawn(move || async move {
        let queue = foreground();
        let spinner = Spinner::new(spin, queue);
        in_queue(queue, answer_shared(asked, answers, spinner)).await;
    });
    let answering = answering.map_err(|error| refused(&error))?;
    let asking = executor("asks").spawn(move || async move {
        let queue = foreground();
        let spinner = Spinner::new(spin, queue);
        in_queue(queue, ask_shared(to, from, spinner, done)).await;
    });
    asking
        .map_err(|error| refused(&error))?
        .join()
        .map_err(|error| refused(&error))?;
    answering.join().map_err(|error| refused(&error))
}

async fn answer_shared(asked: SharedReceiver<()>, answers: SharedSender<()>, spinner: Rc<Spinner>) {
    let (asked, answers) = (asked.connect().await, answers.connect().await);
    while asked.recv().await.is_some() {
        spinner.active();
        if answers.send(()).await.is_err() {
            break;
        }
    }
}

async fn ask_shared(
    to: SharedSender<()>,
    from: SharedReceiver<()>,
    spinner: Rc<Spinner>,
    mut done: impl FnMut(u64, Duration) -> bool,
) {
    let (to, from) = (to.connect().await, from.connect().await);
    let (began, mut count) = (Instant::now(), 0);
    while !done(count, began.elapsed()) {
        spinner.active();
        if to.send(()).await.is_err() || from.recv().await.is_none() {
            break; // the other has ended, and says why when it is joined
        }
        count += 1;
    }
}
