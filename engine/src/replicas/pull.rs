//! The streams of this shard to those that lead what it follows: one to each shard of each leader, made
//! when there is something to say to it and again when it is lost.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use millrace_model::{BrokerId, LogId, ShardId};
use millrace_net::pulse::{Work, named};
use millrace_replication::partition::{FollowerInput, FollowerMessage, Input, SessionId};
use millrace_wire::{FollowerRecord, FollowerSaid};

use super::following::follow;
use super::host::Host;
use super::outbox::Outbox;
use super::stream::{Incoming, Outgoing};
use super::translate::follower_record;
use crate::partition::Partition;

/// The way to other brokers.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub(crate) trait Link {
    /// What comes on a stream.
    type Incoming: Incoming;
    /// What goes.
    type Outgoing: Outgoing;

    /// The shard of a broker that owns a partition there, if the broker is known.
    fn shard_of(&self, broker: BrokerId, log: LogId) -> Option<ShardId>;

    /// Opens a stream to a shard of a broker, which has proven to be that broker.
    ///
    /// # Errors
    /// Why it cannot be reached, for a person.
    async fn open(
        &self,
        broker: BrokerId,
        shard: ShardId,
    ) -> Result<(Self::Outgoing, Self::Incoming), String>;
}

/// One for each shard of a leader.
type Running = RefCell<HashMap<(BrokerId, ShardId), Rc<Puller>>>;

/// See the module's documentation.
pub(crate) struct Pullers {
    shard_of: Box<dyn Fn(BrokerId, LogId) -> Option<ShardId>>,
    start: Box<dyn Fn(Rc<Puller>)>,
    running: Running,
}

/// What is to be said to one shard of a leader, and who follows it.
pub(super) struct Puller {
    pub(super) leader: BrokerId,
    pub(super) shard: ShardId,
    pub(super) outbox: Outbox<FollowerRecord>,
    pub(super) followed: RefCell<HashMap<LogId, Followed>>,
}

/// A partition that follows, and its present session.
pub(super) struct Followed {
    pub(super) partition: Weak<Partition>,
    pub(super) session: SessionId,
}

impl Pullers {
    pub(super) fn new(host: &Rc<Host>, link: impl Link + 'static) -> Self {
        let link = Rc::new(link);
        let knows = Rc::clone(&link);
        let host = Rc::downgrade(host);
        Self {
            shard_of: Box::new(move |broker, log| knows.shard_of(broker, log)),
            start: Box::new(move |puller| {
                let (Some(host), link) = (host.upgrade(), Rc::clone(&link)) else {
                    return;
                };
                let queue = host.foreground;
                let following = async move { follow(&host, &*link, &puller).await };
                glommio::spawn_local_into(named(Work::Foreground, following), queue)
                    .expect("the shard's task queues live as long as its executor")
                    .detach();
            }),
            running: RefCell::default(),
        }
    }

    /// Says something to a leader. False when nobody knows how to reach it.
    pub(super) fn say(
        &self,
        leader: BrokerId,
        (partition, log): (&Weak<Partition>, LogId),
        message: FollowerMessage,
    ) -> bool {
        let Some(shard) = (self.shard_of)(leader, log) else {
            return false;
        };
        let mut running = self.running.borrow_mut();
        let puller = running.entry((leader, shard)).or_insert_with(|| {
            let puller = Rc::new(Puller {
                leader,
                shard,
                outbox: Outbox::default(),
                followed: RefCell::default(),
            });
            (self.start)(Rc::clone(&puller));
            puller
        });
        let session = message.session();
        if matches!(message, FollowerMessage::Subscribe { .. }) {
            let partition = Weak::clone(partition);
            let followed = Followed { partition, session };
            puller.followed.borrow_mut().insert(log, followed);
        }
        puller.outbox.put(log, follower_record(log, message));
        true
    }

    /// A partition is gone.
    pub(super) fn forget(&self, log: LogId) {
        for puller in self.running.borrow().values() {
            puller.followed.borrow_mut().remove(&log);
        }
    }
}

impl Puller {
    /// What is to be sent next. Who unsubscribes is not followed any more.
    pub(super) fn next_record(&self) -> Option<FollowerRecord> {
        let (log, record) = self.outbox.take()?;
        if record.said == FollowerSaid::Unsubscribe {
            let mut followed = self.followed.borrow_mut();
            let ends = |followed: &Followed| followed.session.number <= record.session;
            if followed.get(&log).is_some_and(ends) {
                followed.remove(&log);
            }
        }
        Some(record)
    }

    /// The partition that is in this session, with it.
    pub(super) fn in_session(
        &self,
        log: LogId,
        session: u64,
    ) -> Option<(Rc<Partition>, SessionId)> {
        let followed = self.followed.borrow();
        let followed = followed.get(&log)?;
        let current = followed.session.number == session;
        let partition = followed.partition.upgrade().filter(|_| current)?;
        Some((partition, followed.session))
    }

    /// The stream is lost, or could not be made: all who are followed learn of it.
    pub(super) fn lost(&self) {
        self.outbox.clear();
        let followed = std::mem::take(&mut *self.followed.borrow_mut());
        for Followed { partition, session } in followed.into_values() {
            if let Some(partition) = partition.upgrade() {
                partition.hear(Input::Follower(FollowerInput::StreamLost(session)));
            }
        }
    }
}
