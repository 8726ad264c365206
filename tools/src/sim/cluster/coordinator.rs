//! The coordinator of consumer groups: the machine of `millrace-groups` over the replicated log of the one
//! partition of `__consumer_offsets`. It is loaded by whoever leads that, and thrown away with the leadership.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_engine::controller::Time;
use millrace_groups::{
    Client, Coordinator, Effect, Failure, Input, Record, Request, Response, Ticket, TopicImage,
    TopicsImage, WriteId,
};
use millrace_model::{
    BatchBuilder, BatchSpec, Decompressor, ErrorCode, Frame, LeaderEpoch, MAX_FRAME_LEN, Offset,
    Timestamp,
};
use millrace_replication::partition::Acks;

use super::broker::Broker;
use super::clock::NodeTime;
use super::partition::{Fate, Partition};
use super::settings::group_settings;
use super::slot::{Give, slot};
use super::world::{OFFSETS, trace};
use crate::sim::trace::Violation;

/// Bytes that are replayed at a time.
const READ_LEN: usize = 64 << 10;

/// The coordinator of a broker, if it has one.
pub(super) struct Groups {
    /// A clock that starts as the wall clock and never jumps.
    born: (Timestamp, Timestamp),
    state: RefCell<State>,
}

enum State {
    None,
    Loading(LeaderEpoch),
    Loaded(Rc<Loaded>),
}

/// What has become of a write, once that is known.
type Outcome = Option<Result<(), ErrorCode>>;

/// A machine that has been loaded.
struct Loaded {
    epoch: LeaderEpoch,
    partition: Rc<Partition>,
    machine: RefCell<Coordinator>,
    /// As the machine knows them.
    topics: RefCell<Arc<TopicsImage>>,
    inputs: RefCell<VecDeque<Input>>,
    busy: Cell<bool>,
    ended: Cell<bool>,
    waiting: RefCell<BTreeMap<Ticket, Give<Response>>>,
    next_ticket: Cell<u64>,
    /// Writes whose fate is not known, in order.
    writes: RefCell<VecDeque<(WriteId, Outcome)>>,
    /// Nothing more is appended.
    failed: Cell<bool>,
    wake_at: Cell<Option<Timestamp>>,
}

impl Groups {
    pub(super) fn new(time: &NodeTime) -> Self {
        Self {
            born: (time.wall(), time.now()),
            state: RefCell::new(State::None),
        }
    }

    fn now(&self, broker: &Broker) -> Timestamp {
        let (wall, began) = self.born;
        Timestamp(wall.0 + broker.time().now().0 - began.0)
    }

    /// The process is gone.
    pub(super) fn close(&self) {
        if let State::Loaded(loaded) = self.state.replace(State::None) {
            loaded.ended.set(true);
            loaded.waiting.borrow_mut().clear();
            loaded.inputs.borrow_mut().clear();
        }
    }

    /// Follows the leadership of the log, and the topics.
    pub(super) fn tend(&self, broker: &Rc<Broker>) {
        self.follow_leadership(broker);
        let loaded = match &*self.state.borrow() {
            State::Loaded(loaded) => Rc::clone(loaded),
            State::None | State::Loading(_) => return,
        };
        let topics = topics(broker);
        if *loaded.topics.borrow() != topics {
            *loaded.topics.borrow_mut() = Arc::clone(&topics);
            loaded.feed(broker, Input::Topics(topics));
        }
    }

    fn follow_leadership(&self, broker: &Rc<Broker>) {
        let partition = broker.open_partition(OFFSETS);
        let leads = partition
            .as_ref()
            .and_then(|partition| partition.leads_in());
        let present = match &*self.state.borrow() {
            State::None => None,
            State::Loading(epoch) => Some(*epoch),
            State::Loaded(loaded) => Some(loaded.epoch),
        };
        if present == leads {
            return;
        }
        if let State::Loaded(loaded) = self.state.replace(State::None) {
            loaded.retire();
        }
        if let (Some(epoch), Some(partition)) = (leads, partition) {
            *self.state.borrow_mut() = State::Loading(epoch);
            let task = Rc::clone(broker);
            broker.spawn(async move { load(&task, partition, epoch).await });
        }
    }

    fn is_loading(&self, epoch: LeaderEpoch) -> bool {
        matches!(&*self.state.borrow(), State::Loading(of) if *of == epoch)
    }

    /// Answers a request, and says in which epoch.
    pub(super) async fn ask(
        &self,
        broker: &Rc<Broker>,
        client: u32,
        request: Request,
    ) -> (u32, Response) {
        self.tend(broker);
        let loaded = match &*self.state.borrow() {
            State::None => return (0, failed(ErrorCode::NotCoordinator)),
            State::Loading(_) => return (0, failed(ErrorCode::CoordinatorLoadInProgress)),
            State::Loaded(loaded) => Rc::clone(loaded),
        };
        let client = Client {
            id: format!("client-{client}"),
            host: "/simulated".to_owned(),
        };
        let ticket = Ticket(loaded.next_ticket.get());
        loaded.next_ticket.set(ticket.0 + 1);
        let (give, take) = slot();
        loaded.waiting.borrow_mut().insert(ticket, give);
        loaded.feed(
            broker,
            Input::Request {
                ticket,
                client,
                request,
            },
        );
        let answer = take.await;
        let answer = answer.unwrap_or_else(|| failed(ErrorCode::NotCoordinator));
        (loaded.epoch.0, answer)
    }
}

/// Replays the log into a new machine, once all of it is committed.
async fn load(broker: &Rc<Broker>, partition: Rc<Partition>, epoch: LeaderEpoch) {
    let groups = &broker.groups;
    let mut machine = Coordinator::new(group_settings(), broker.world().number() as u64);
    let end = partition.log.accepted_end();
    loop {
        let changed = partition.log.changed();
        if partition.leads_in() != Some(epoch) || !groups.is_loading(epoch) {
            return;
        }
        if partition.high_watermark() >= end.0 && partition.log.readable_end() >= end {
            break;
        }
        changed.await;
    }
    let replayed = replay(&partition, end, &mut machine).await;
    if !matches!(replayed, Ok(true)) {
        if groups.is_loading(epoch) {
            // The next look begins anew.
            *groups.state.borrow_mut() = State::None;
        }
        return broker.world().note(replayed.map(|_| ()).map_err(Violation));
    }
    if !groups.is_loading(epoch) || partition.leads_in() != Some(epoch) {
        return;
    }
    trace!(
        broker.world(),
        "{} coordinates in epoch {epoch}, {} groups replayed to {end}",
        broker.id(),
        machine.groups()
    );
    let now = broker.world().clock.now();
    broker.check(|checker| {
        checker.groups.coordinates(epoch.0, now);
        Ok(())
    });
    let mut effects = Vec::new();
    let topics = topics(broker);
    machine.loaded(groups.now(broker), Arc::clone(&topics), &mut effects);
    let loaded = Rc::new(Loaded {
        epoch,
        partition,
        machine: RefCell::new(machine),
        topics: RefCell::new(topics),
        inputs: RefCell::default(),
        busy: Cell::new(true),
        ended: Cell::new(false),
        waiting: RefCell::default(),
        next_ticket: Cell::new(0),
        writes: RefCell::default(),
        failed: Cell::new(false),
        wake_at: Cell::new(None),
    });
    *groups.state.borrow_mut() = State::Loaded(Rc::clone(&loaded));
    loaded.carry_out(broker, effects);
    loaded.busy.set(false);
    loaded.run(broker);
}

/// Replays the log up to `end`. Whether it could be read.
async fn replay(
    partition: &Partition,
    end: Offset,
    machine: &mut Coordinator,
) -> Result<bool, String> {
    let (log, seed) = (&partition.log, partition.id.checksum_seed());
    let mut scratch = Decompressor::new();
    let mut next = log.log_start();
    while next < end {
        let runs = log.read(next, READ_LEN, end).await;
        let runs = match runs {
            Ok(runs) if !runs.is_empty() => runs,
            // The disk fails.
            Ok(_) | Err(_) => return Ok(false),
        };
        for run in &runs {
            let mut bytes = run.as_bytes();
            while !bytes.is_empty() {
                let frame = Frame::check_stored(bytes, seed).map_err(|error| error.to_string())?;
                bytes = &bytes[frame.len()..];
                let records = frame.batch().records(&mut scratch, MAX_FRAME_LEN);
                for record in records.map_err(|error| error.to_string())? {
                    let record = record.map_err(|error| error.to_string())?;
                    if let Some(key) = record.key {
                        let told = machine.replay(key, record.value, record.timestamp);
                        told.map_err(|error| error.to_string())?;
                    }
                }
            }
            next = run.next;
        }
    }
    Ok(true)
}

fn topics(broker: &Broker) -> Arc<TopicsImage> {
    let cluster = broker.image().cluster;
    let mut image = TopicsImage::default();
    for topic in cluster.topics().filter(|topic| topic.id != OFFSETS.topic) {
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(0);
        let entry = TopicImage {
            id: topic.id,
            partitions,
        };
        image.by_name.insert(topic.name.to_string(), entry);
        image.by_id.insert(topic.id, topic.name.to_string());
    }
    Arc::new(image)
}

impl Loaded {
    fn feed(self: &Rc<Self>, broker: &Rc<Broker>, input: Input) {
        self.inputs.borrow_mut().push_back(input);
        self.run(broker);
    }

    /// Handles what there is to handle.
    fn run(self: &Rc<Self>, broker: &Rc<Broker>) {
        if self.busy.replace(true) {
            return;
        }
        while !self.ended.get() {
            if let Some((write, result)) = self.next_fate() {
                let input = match result {
                    Ok(()) => Input::Written(write),
                    Err(_) => Input::WriteFailed(write, ErrorCode::CoordinatorNotAvailable),
                };
                self.handle(broker, input);
                if let Err(code) = result {
                    self.end(broker, code);
                }
                continue;
            }
            let Some(input) = self.inputs.borrow_mut().pop_front() else {
                break;
            };
            self.handle(broker, input);
        }
        self.busy.set(false);
    }

    fn handle(self: &Rc<Self>, broker: &Rc<Broker>, input: Input) {
        let mut effects = Vec::new();
        let now = broker.groups.now(broker);
        self.machine.borrow_mut().handle(now, input, &mut effects);
        self.carry_out(broker, effects);
    }

    fn carry_out(self: &Rc<Self>, broker: &Rc<Broker>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { write, records } => self.append(broker, write, &records),
                Effect::Respond { ticket, response } => {
                    if let Some(give) = self.waiting.borrow_mut().remove(&ticket) {
                        give.give(response);
                    }
                }
                Effect::WakeAt(at) => self.wake(broker, at),
            }
        }
    }

    fn append(self: &Rc<Self>, broker: &Rc<Broker>, write: WriteId, records: &[Record]) {
        self.writes.borrow_mut().push_back((write, None));
        if self.failed.get() {
            return self.settle(write, Err(ErrorCode::CoordinatorNotAvailable));
        }
        let now = broker.groups.now(broker);
        let mut builder = BatchBuilder::new();
        for record in records {
            let appended = builder.append(Some(&record.key), record.value.as_deref(), [], now);
            appended.expect("records of a simulated group are short");
        }
        let batch = builder.build(&BatchSpec::default());
        let batch = Bytes::from(batch.expect("it has records"));
        let fate = self.partition.produce(&batch, Acks::All);
        let (loaded, task) = (Rc::clone(self), Rc::clone(broker));
        broker.spawn(async move {
            let fate: Fate = fate.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower));
            loaded.settle(write, fate.map(|_| ()));
            loaded.run(&task);
        });
    }

    fn settle(&self, write: WriteId, result: Result<(), ErrorCode>) {
        if result.is_err() {
            self.failed.set(true);
        }
        let mut writes = self.writes.borrow_mut();
        if let Some(entry) = writes.iter_mut().find(|(of, _)| *of == write) {
            entry.1 = Some(result);
        }
    }

    fn next_fate(&self) -> Option<(WriteId, Result<(), ErrorCode>)> {
        let mut writes = self.writes.borrow_mut();
        let (write, result) = *writes.front()?;
        let result = result?;
        writes.pop_front();
        Some((write, result))
    }

    fn wake(self: &Rc<Self>, broker: &Rc<Broker>, at: Timestamp) {
        self.wake_at.set(Some(at));
        let (waiting, task) = (Rc::downgrade(self), Rc::clone(broker));
        broker.spawn(async move {
            // A timer keeps no coordinator, nor its log, from going.
            loop {
                let left = at.0 - task.groups.now(&task).0;
                let pause = u64::try_from(left).unwrap_or(0).max(1);
                task.time().sleep(Duration::from_millis(pause)).await;
                let Some(loaded) = waiting.upgrade() else {
                    return;
                };
                if loaded.wake_at.get() != Some(at) || loaded.ended.get() {
                    return;
                }
                if task.groups.now(&task) >= at {
                    loaded.wake_at.set(None);
                    return loaded.feed(&task, Input::Tick);
                }
            }
        });
    }

    /// A write failed: what the machine knows beyond its log is void. It is loaded again.
    fn end(self: &Rc<Self>, broker: &Rc<Broker>, why: ErrorCode) {
        trace!(
            broker.world(),
            "{} lets its groups go: {why:?}",
            broker.id()
        );
        self.retire();
        let mut state = broker.groups.state.borrow_mut();
        if matches!(&*state, State::Loaded(loaded) if Rc::ptr_eq(loaded, self)) {
            // The next look begins to load.
            *state = State::None;
        }
    }

    fn retire(&self) {
        self.ended.set(true);
        self.inputs.borrow_mut().clear();
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for give in waiting.into_values() {
            give.give(failed(ErrorCode::NotCoordinator));
        }
    }
}

fn failed(code: ErrorCode) -> Response {
    Response::Failed(Failure {
        code,
        message: None,
    })
}
