//! The task beside a group's consumer: carries the heartbeats of its [`Membership`], whatever the
//! application does meanwhile.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millrace_model::LogId;
use millrace_wire::{GroupAssignment, GroupHeartbeat, GroupRequest, GroupResponse};
use tokio::sync::watch;

use super::GroupPartition;
use super::admin::ask;
use super::membership::{Effect, Input, Membership};
use crate::runtime::{Either, race};
use crate::{Client, ClientError};

/// What the application's side tells the task. When that side is gone, the member leaves.
#[derive(Debug)]
pub(super) enum Command {
    Released(Vec<LogId>),
    /// The application asks again after it has stalled.
    Resumed,
    Leave,
}

/// What the task tells the application's side, to be carried out in order.
#[derive(Debug)]
pub(super) enum Event {
    Start(Vec<GroupPartition>),
    Release(Vec<GroupPartition>),
    Lose(Vec<GroupPartition>),
    Joined,
    Failed(ClientError),
    Left,
}

/// Whether the application asks for records often enough. One thread writes, one reads.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Odd while a call is under way.
    calls: AtomicU64,
    stalled: AtomicBool,
}

impl Activity {
    /// A call begins. True when the member was taken for stalled, and must be told otherwise.
    pub(super) fn begin(&self) -> bool {
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store((calls + 1) | 1, Ordering::SeqCst);
        self.stalled.load(Ordering::SeqCst) && self.stalled.swap(false, Ordering::SeqCst)
    }

    /// The call has ended.
    pub(super) fn end(&self) {
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store((calls + 1) & !1, Ordering::SeqCst);
    }
}

/// Calls as the task has seen them last, and since when they are so.
struct Seen {
    calls: u64,
    since: Instant,
}

/// See the module.
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) membership: Membership,
    pub(super) commands: flume::Receiver<Command>,
    pub(super) events: flume::Sender<Event>,
    /// The epoch for commits.
    pub(super) epoch: watch::Sender<Option<i32>>,
    pub(super) activity: Arc<Activity>,
    /// How long the application may take between two calls.
    pub(super) patience: Duration,
}

type Answer = Pin<Box<dyn Future<Output = Result<GroupAssignment, ClientError>> + Send>>;

impl Driver {
    /// Runs until the member has left or can be no member.
    pub(super) async fn run(mut self) {
        let mut effects = Vec::new();
        let mut answer: Option<Answer> = None;
        let mut gone = false;
        let mut seen = Seen {
            calls: 0,
            since: self.now(),
        };
        let mut input = Input::Tick;
        loop {
            self.membership.handle(self.now(), input, &mut effects);
            let epoch = self.membership.epoch();
            self.epoch
                .send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
            for effect in effects.drain(..) {
                let event = match effect {
                    Effect::Heartbeat(heartbeat) => {
                        assert!(answer.is_none(), "one heartbeat is under way at a time");
                        answer = Some(Box::pin(send(self.client.clone(), heartbeat)));
                        continue;
                    }
                    Effect::Start(partitions) => Event::Start(partitions),
                    Effect::Release(partitions) => Event::Release(partitions),
                    Effect::Lose(partitions) => Event::Lose(partitions),
                    Effect::Joined => Event::Joined,
                    Effect::Failed(error) => {
                        // Without a receiver nobody wants to know.
                        let _ = self.events.send(Event::Failed(error));
                        return;
                    }
                    Effect::Left => {
                        let _ = self.events.send(Event::Left);
                        return;
                    }
                };
                let _ = self.events.send(event);
            }
            input = self.next_input(&mut answer, &mut gone, &mut seen).await;
        }
    }

    async fn next_input(
        &self,
        answer: &mut Option<Answer>,
        gone: &mut bool,
        seen: &mut Seen,
    ) -> Input {
        let answered = async {
            match answer.as_mut() {
                Some(answer) => answer.await,
                None => pending().await,
            }
        };
        let is_gone = *gone;
        let command = async {
            match is_gone {
                true => pending().await,
                false => self.commands.recv_async().await,
            }
        };
        let until = self.wake_at(seen);
        let time = async {
            match until {
                Some(at) => self.client.shared().runtime.sleep_until(at).await,
                None => pending().await,
            }
        };
        match race(race(answered, command), time).await {
            Either::Left(Either::Left(result)) => {
                *answer = None;
                Input::Answered(result)
            }
            Either::Left(Either::Right(Ok(command))) => match command {
                Command::Released(partitions) => Input::Released(partitions),
                Command::Resumed => Input::Resumed,
                Command::Leave => Input::Leave,
            },
            Either::Left(Either::Right(Err(_))) => {
                *gone = true;
                Input::Leave
            }
            Either::Right(()) if self.has_stalled(seen) => Input::Stalled,
            Either::Right(()) => Input::Tick,
        }
    }

    /// When to look next, at what is due or at the application.
    fn wake_at(&self, seen: &mut Seen) -> Option<Instant> {
        let now = self.now();
        let calls = self.activity.calls.load(Ordering::SeqCst);
        let away = self.activity.stalled.load(Ordering::SeqCst);
        if calls != seen.calls || !calls.is_multiple_of(2) || away {
            *seen = Seen { calls, since: now };
        }
        let due = self.membership.wake_at();
        let look = (!away).then(|| seen.since + self.patience);
        due.into_iter().chain(look).min()
    }

    fn has_stalled(&self, seen: &Seen) -> bool {
        if self.now() < seen.since + self.patience {
            return false;
        }
        let is_idle = || {
            let calls = self.activity.calls.load(Ordering::SeqCst);
            calls == seen.calls && calls.is_multiple_of(2)
        };
        if !is_idle() {
            return false;
        }
        self.activity.stalled.store(true, Ordering::SeqCst);
        // A call that began meanwhile has either seen the mark, or is seen here.
        is_idle() || !self.activity.stalled.swap(false, Ordering::SeqCst)
    }

    fn now(&self) -> Instant {
        self.client.shared().runtime.now()
    }
}

async fn send(client: Client, heartbeat: GroupHeartbeat) -> Result<GroupAssignment, ClientError> {
    match ask(&client, GroupRequest::Heartbeat(heartbeat)).await? {
        GroupResponse::Heartbeat(assignment) => Ok(assignment),
        other => Err(super::admin::unexpected(&other)),
    }
}
