//! The streams between the replicas of two brokers: one from each follower to each leader, made when there is
//! something to say. What is said on one arrives in order, or the stream breaks and both ends learn it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use millrace_model::{BrokerId, LogId};
use millrace_replication::partition::{FollowerMessage, LeaderMessage, SessionId, Watermark};

use super::broker::Broker;
use super::faults::Fault;
use super::world::World;

/// One stream; a later one between the same two has a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    follower: BrokerId,
    leader: BrokerId,
    number: u64,
}

/// What arrives on a stream.
pub(super) enum Said {
    /// By the follower.
    Follower(FollowerMessage),
    /// By the leader.
    Leader(SessionId, LeaderMessage),
    /// By the leader, with frames.
    Frames(SessionId, Bytes, Watermark),
    /// The stream is lost.
    Lost,
}

/// The streams that are whole.
#[derive(Default)]
pub(super) struct Streams {
    whole: RefCell<BTreeMap<(BrokerId, BrokerId), u64>>,
    last: RefCell<u64>,
}

impl Streams {
    fn is_whole(&self, stream: StreamId) -> bool {
        let key = (stream.follower, stream.leader);
        self.whole.borrow().get(&key) == Some(&stream.number)
    }

    /// The stream between the two, made if need be.
    fn between(&self, follower: BrokerId, leader: BrokerId) -> StreamId {
        let mut last = self.last.borrow_mut();
        let mut whole = self.whole.borrow_mut();
        let number = *whole.entry((follower, leader)).or_insert_with(|| {
            *last += 1;
            *last
        });
        StreamId {
            follower,
            leader,
            number,
        }
    }

    fn of(&self, broker: BrokerId) -> Vec<StreamId> {
        let whole = self.whole.borrow();
        let ends = whole
            .iter()
            .filter(|((follower, leader), _)| *follower == broker || *leader == broker);
        ends.map(|(&(follower, leader), &number)| StreamId {
            follower,
            leader,
            number,
        })
        .collect()
    }
}

impl Broker {
    /// The stream on which this broker follows another.
    pub(super) fn stream_to(&self, leader: BrokerId) -> StreamId {
        self.world().streams.between(self.id(), leader)
    }

    pub(super) fn say_as_follower(
        &self,
        (to, stream): (BrokerId, StreamId),
        log: LogId,
        message: FollowerMessage,
    ) {
        let said = Said::Follower(message);
        self.world().say((self.id(), to), stream, log, said);
    }

    pub(super) fn say_as_leader(
        &self,
        (to, stream): (BrokerId, StreamId),
        log: LogId,
        session: SessionId,
        message: LeaderMessage,
    ) {
        let said = Said::Leader(session, message);
        self.world().say((self.id(), to), stream, log, said);
    }

    pub(super) fn send_frames(
        &self,
        (to, stream): (BrokerId, StreamId),
        log: LogId,
        session: SessionId,
        (bytes, watermark): (Bytes, Watermark),
    ) {
        let said = Said::Frames(session, bytes, watermark);
        self.world().say((self.id(), to), stream, log, said);
    }

    /// Something has come on a stream.
    pub(super) fn hear_stream(
        self: &Rc<Self>,
        from: BrokerId,
        stream: StreamId,
        log: LogId,
        said: Said,
    ) {
        let partition = self.open_partition(log);
        match (partition, said) {
            (Some(partition), Said::Follower(message)) => {
                partition.hear_follower((from, stream), message);
            }
            (None, Said::Follower(message)) => {
                let code = millrace_model::ErrorCode::NotLeaderOrFollower;
                let refused = LeaderMessage::Refused(code);
                self.say_as_leader((from, stream), log, message.session(), refused);
            }
            (Some(partition), Said::Leader(session, message)) => {
                partition.hear_leader((from, stream), session, message);
            }
            (Some(partition), Said::Frames(session, bytes, watermark)) => {
                let stored = partition.store((from, stream), session, (bytes, watermark));
                self.world().note(stored);
            }
            (_, Said::Lost) => {
                for partition in self.open_partitions() {
                    partition.stream_lost(stream);
                }
            }
            (None, Said::Leader(..) | Said::Frames(..)) => {}
        }
    }
}

impl World {
    fn say(
        self: &Rc<Self>,
        (from, to): (BrokerId, BrokerId),
        stream: StreamId,
        log: LogId,
        said: Said,
    ) {
        if !self.streams.is_whole(stream) {
            // Whoever says this learns it soon, if it has not been told yet.
            return;
        }
        let Some(at) = self.network.stream(from.0, to.0, self.clock.now()) else {
            return self.break_stream(stream);
        };
        let world = Rc::clone(self);
        self.clock.call_at(at, move || {
            if !world.streams.is_whole(stream) {
                return;
            }
            match world.running(to) {
                Some(broker) if world.network.passes(from.0, to.0) => {
                    broker.arrive(move |broker| broker.hear_stream(from, stream, log, said));
                }
                _ => world.break_stream(stream),
            }
        });
    }

    /// All streams of a broker break.
    pub(super) fn break_streams(self: &Rc<Self>, broker: BrokerId) {
        for stream in self.streams.of(broker) {
            self.break_stream(stream);
        }
    }

    fn break_stream(self: &Rc<Self>, stream: StreamId) {
        if !self.streams.is_whole(stream) {
            return;
        }
        let key = (stream.follower, stream.leader);
        self.streams.whole.borrow_mut().remove(&key);
        self.count(Fault::LostStream);
        for end in [stream.follower, stream.leader] {
            let at = self.clock.now() + self.between(10, 300);
            let world = Rc::clone(self);
            self.clock.call_at(at, move || {
                if let Some(broker) = world.running(end) {
                    let log = LogId::default();
                    broker.arrive(move |broker| broker.hear_stream(end, stream, log, Said::Lost));
                }
            });
        }
    }
}
