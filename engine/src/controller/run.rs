//! The task: carries out what the machines want, and tells them what happens.
//!
//! At most one write is on its way; what is wanted meanwhile goes into the next one together. So a
//! slow disk delays neither the leader's heartbeats nor the reading of messages. Likewise at most one
//! image is on its way to the shards, and the next holds all that has changed since.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use millrace_model::{BrokerId, ErrorCode, Timestamp};
use millrace_replication::Refusal;
use millrace_replication::quorum::{Index, Write, WriteId};

use super::asks::Asker;
use super::client::{Arrived, Inbox, Submission};
use super::core::{Call, Core};
use super::journal::{JournalError, QuorumJournal};
use super::outside::{PeerTransport, Time};
use super::{Controller, Published};

/// Before a full disk is tried again.
const FULL_INTERVAL: Duration = Duration::from_millis(100);

/// What is taken of each kind before anything is carried out: so many changes share a write.
const BURST: usize = 256;

type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What happened.
enum Event {
    Arrived(Arrived),
    Submitted(Submission),
    Persisted(WriteId),
    DiskFull,
    Failed(JournalError),
    Published(Index),
    Called(u64, Result<Bytes, Refusal>),
    Knocked(BrokerId, bool),
    TimePassed,
    /// Every client is gone.
    Gone,
}

impl<J: QuorumJournal, T: Time> Controller<J, T> {
    /// Runs until every [`super::ControllerClient`] is gone. `publish` returns when every shard has
    /// taken over the image.
    pub async fn run(self, out: impl PeerTransport, publish: impl AsyncFn(Published)) {
        let Self {
            mut core,
            journal,
            time,
            client,
            inbox,
        } = self;
        drop(client);
        let out = Rc::new(out);
        let mut work = Work {
            disk: Disk::Idle(journal),
            publishing: None,
            calls: Vec::new(),
            knocks: Vec::new(),
        };
        loop {
            core.tick(time.now());
            for message in std::mem::take(&mut core.wanted.messages) {
                out.send(message.to, message.to_bytes());
            }
            for call in std::mem::take(&mut core.wanted.calls) {
                let carried = carry(Rc::clone(&out), time.clone(), call);
                work.calls.push(Box::pin(carried));
            }
            for broker in std::mem::take(&mut core.wanted.knocks) {
                let out = Rc::clone(&out);
                let knock = async move { (broker, out.is_gone(broker).await) };
                work.knocks.push(Box::pin(knock));
            }
            let acquaintances = std::mem::take(&mut core.wanted.acquaintances);
            if !acquaintances.is_empty() {
                out.meet(&acquaintances);
            }
            work.disk.write(&mut core.wanted.writes);
            if work.publishing.is_none() {
                work.publishing = tell(&mut core, &publish);
            }
            let timer = wait_until(&time, core.deadline());
            let working = poll_fn(|cx| work.poll(cx, &time));
            let event = or(working, or(next_of(&inbox), timer)).await;
            if matches!(event, Event::Gone) {
                return;
            }
            take(&mut core, time.now(), event);
            take_burst(&mut core, &time, &inbox);
        }
    }
}

/// What is under way.
struct Work<'a, J> {
    disk: Disk<J>,
    publishing: Option<Local<'a, Index>>,
    calls: Vec<Local<'static, (u64, Result<Bytes, Refusal>)>>,
    knocks: Vec<Local<'static, (BrokerId, bool)>>,
}

impl<J: QuorumJournal> Work<'_, J> {
    /// The next thing that is done.
    fn poll(&mut self, cx: &mut Context<'_>, time: &impl Time) -> Poll<Event> {
        if let Poll::Ready(event) = self.disk.poll(cx, time) {
            return Poll::Ready(event);
        }
        if let Some(publishing) = &mut self.publishing
            && let Poll::Ready(at) = publishing.as_mut().poll(cx)
        {
            self.publishing = None;
            return Poll::Ready(Event::Published(at));
        }
        if let Some((id, result)) = first_done(&mut self.calls, cx) {
            return Poll::Ready(Event::Called(id, result));
        }
        if let Some((broker, is_gone)) = first_done(&mut self.knocks, cx) {
            return Poll::Ready(Event::Knocked(broker, is_gone));
        }
        Poll::Pending
    }
}

/// What one of these came to, which is then no more among them.
fn first_done<T>(all: &mut Vec<Local<'static, T>>, cx: &mut Context<'_>) -> Option<T> {
    for at in 0..all.len() {
        if let Poll::Ready(done) = all[at].as_mut().poll(cx) {
            drop(all.swap_remove(at));
            return Some(done);
        }
    }
    None
}

/// What comes back of a write: the journal, and what was to be written.
type Written<J> = (J, Vec<Write>, Result<(), JournalError>);

/// The journal, at rest or at work.
enum Disk<J> {
    Idle(J),
    Busy(Local<'static, Written<J>>),
    /// Nobody knows what it holds.
    Failed,
}

impl<J: QuorumJournal> Disk<J> {
    /// Begins to write what is wanted, if the journal is at rest.
    fn write(&mut self, wanted: &mut Vec<Write>) {
        if wanted.is_empty() {
            return;
        }
        *self = match std::mem::replace(self, Self::Failed) {
            Self::Idle(journal) => Self::Busy(Box::pin(persist(journal, std::mem::take(wanted)))),
            busy => busy,
        };
    }

    fn poll(&mut self, cx: &mut Context<'_>, time: &impl Time) -> Poll<Event> {
        let Self::Busy(busy) = self else {
            return Poll::Pending;
        };
        let Poll::Ready((journal, writes, result)) = busy.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match result {
            Ok(()) => {
                *self = Self::Idle(journal);
                let last = writes.last().map(|write| write.id);
                Event::Persisted(last.unwrap_or_default())
            }
            Err(JournalError::Full) => {
                let time = time.clone();
                *self = Self::Busy(Box::pin(async move {
                    time.sleep(FULL_INTERVAL).await;
                    persist(journal, writes).await
                }));
                Event::DiskFull
            }
            Err(error) => {
                *self = Self::Failed;
                Event::Failed(error)
            }
        })
    }
}

async fn persist<J: QuorumJournal>(mut journal: J, writes: Vec<Write>) -> Written<J> {
    let result = journal.persist(&writes).await;
    (journal, writes, result)
}

/// Asks another controller, but not for ever.
async fn carry<T: Time>(
    out: Rc<impl PeerTransport>,
    time: T,
    call: Call,
) -> (u64, Result<Bytes, Refusal>) {
    let Call {
        id,
        to,
        request,
        patience,
    } = call;
    let late = async {
        time.sleep(patience).await;
        let message = format!("broker {to} did not answer in time");
        Err(Refusal::new(ErrorCode::RequestTimedOut, message))
    };
    (id, or(out.call(to, request), late).await)
}

/// Begins to publish what has changed; where nothing has, whoever waits for it need not.
fn tell<'a>(core: &mut Core, publish: &'a impl AsyncFn(Published)) -> Option<Local<'a, Index>> {
    let at = core.applied;
    let Some(published) = core.publish() else {
        core.published(at);
        return None;
    };
    Some(Box::pin(async move {
        publish(published).await;
        at
    }))
}

async fn next_of(inbox: &Inbox) -> Event {
    let arrived = async { inbox.messages.recv_async().await.map(Event::Arrived) };
    let submitted = async { inbox.submissions.recv_async().await.map(Event::Submitted) };
    or(arrived, submitted).await.unwrap_or(Event::Gone)
}

async fn wait_until(time: &impl Time, deadline: Option<Timestamp>) -> Event {
    let Some(deadline) = deadline else {
        return pending().await;
    };
    let wait = u64::try_from(deadline.0.saturating_sub(time.now().0)).unwrap_or(0);
    // Never at once: whatever is due already was tended to, and others are to have a turn.
    time.sleep(Duration::from_millis(wait.max(1))).await;
    Event::TimePassed
}

/// Takes what has come meanwhile, so that all of it goes into the same write.
fn take_burst(core: &mut Core, time: &impl Time, inbox: &Inbox) {
    for arrived in inbox.messages.try_iter().take(BURST) {
        take(core, time.now(), Event::Arrived(arrived));
    }
    for submission in inbox.submissions.try_iter().take(BURST) {
        take(core, time.now(), Event::Submitted(submission));
    }
}

fn take(core: &mut Core, now: Timestamp, event: Event) {
    match event {
        Event::Arrived(Arrived { from, message }) => core.arrived(now, from, &message),
        Event::Submitted(submission) => submitted(core, now, submission),
        Event::Persisted(write) => core.persisted(now, write),
        Event::DiskFull => core.disk_is_full(),
        Event::Failed(error) => core.fail(error.to_string()),
        Event::Published(at) => core.published(at),
        Event::Called(id, result) => core.called(now, id, result),
        Event::Knocked(broker, is_gone) => core.knocked(now, broker, is_gone),
        Event::TimePassed | Event::Gone => {}
    }
}

fn submitted(core: &mut Core, now: Timestamp, submission: Submission) {
    match submission {
        Submission::Ask(ask, reply) => core.ask(now, ask, Asker::Client(reply), false),
        Submission::Peer(from, request, reply) => core.serve(now, from, &request, reply),
        Submission::Status(reply) => drop(reply.try_send(core.status())),
        Submission::Inquire(reply) => core.inquire(now, reply),
        Submission::PrepareToStop(reply) => core.prepare_to_stop(now, reply),
    }
}
