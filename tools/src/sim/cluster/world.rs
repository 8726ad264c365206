//! What everything in a simulated cluster shares, and how time passes in it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use millrace_model::{BrokerId, LogId, PartitionId, TopicId};
use millrace_storage::disk::memory::executor::LocalTasks;

use super::broker::Broker;
use super::checker::Checker;
use super::clock::Clock;
use super::faults::{Fault, Faults};
use super::network::{Address, Network};
use super::node::Node;
use super::slot::{Take, slot};
use super::streams::Streams;
use crate::sim::trace::{Trace, Violation};

/// Adds a line to the history's trace, with the time.
macro_rules! trace {
    ($world:expr, $($line:tt)+) => {{
        let world = &$world;
        world.trace.line(format_args!("{:>6} {}", world.clock.now(), format_args!($($line)+)))
    }};
}

pub(super) use trace;

/// The log of the groups' coordinator.
pub(super) const OFFSETS: LogId = LogId {
    topic: TopicId([1; 16]),
    partition: PartitionId(0),
};

/// The topic that producers and consumers use.
pub(super) const ORDERS: TopicId = TopicId([2; 16]);

/// Its name.
pub(super) const ORDERS_NAME: &str = "orders";

/// Its partitions.
pub(super) const PARTITIONS: u32 = 3;

/// The logs of [`ORDERS`].
pub(super) fn orders(partition: u32) -> LogId {
    LogId {
        topic: ORDERS,
        partition: PartitionId(partition),
    }
}

/// The line with topics by their names.
pub(super) fn with_names(line: &str) -> String {
    let (orders, offsets) = (format!("{ORDERS}-"), OFFSETS.to_string());
    line.replace(&orders, "orders-")
        .replace(&offsets, "offsets")
}

/// See the module's documentation.
pub(super) struct World {
    pub(super) clock: Rc<Clock>,
    pub(super) rng: RefCell<fastrand::Rng>,
    pub(super) trace: Rc<Trace>,
    pub(super) network: Network,
    pub(super) streams: Streams,
    pub(super) nodes: Vec<Rc<Node>>,
    pub(super) voters: Vec<BrokerId>,
    pub(super) min_in_sync: u32,
    pub(super) checker: RefCell<Checker>,
    pub(super) faults: RefCell<Faults>,
    /// Clients, and who makes things go wrong.
    pub(super) tasks: LocalTasks,
    violation: RefCell<Option<Violation>>,
    numbers: Cell<u128>,
    /// Faults have come to an end.
    pub(super) calm: Cell<bool>,
    /// Producers send nothing new any more.
    pub(super) quiet: Cell<bool>,
}

impl World {
    pub(super) fn new(seed: u64, trace: Rc<Trace>) -> Rc<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let clock = Rc::new(Clock::default());
        let voters = if rng.u32(0..8) == 0 { 5 } else { 3 };
        // One more, which may join.
        let nodes = (1..=voters + 1).map(|id| Node::new(BrokerId(id), &clock, &mut rng));
        Rc::new(Self {
            nodes: nodes.collect(),
            voters: (1..=voters).map(BrokerId).collect(),
            min_in_sync: if rng.u32(0..4) == 0 { 1 } else { 2 },
            network: Network::new(rng.u64(..)),
            streams: Streams::default(),
            checker: RefCell::default(),
            faults: RefCell::default(),
            tasks: LocalTasks::new(rng.u64(..)),
            violation: RefCell::default(),
            numbers: Cell::new(u128::from(rng.u64(..)) << 32),
            calm: Cell::new(false),
            quiet: Cell::new(false),
            rng: RefCell::new(rng),
            clock,
            trace,
        })
    }

    /// A number that was never given out before.
    pub(super) fn number(&self) -> u128 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.rng.borrow_mut().u64(..end.max(1))
    }

    pub(super) fn between(&self, from: i64, to: i64) -> i64 {
        self.rng.borrow_mut().i64(from..=to)
    }

    /// True once in `times`.
    pub(super) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn count(&self, fault: Fault) {
        self.faults.borrow_mut().add(fault, 1);
    }

    /// Notes the first violation, for what comes after may be its consequence.
    pub(super) fn note(&self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.borrow().is_none()
        {
            trace!(self, "VIOLATION: {violation}");
            *self.violation.borrow_mut() = Some(violation);
        }
    }

    pub(super) fn node(&self, id: BrokerId) -> Option<&Rc<Node>> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The broker's process, if it runs, be it that it stands still.
    pub(super) fn running(&self, id: BrokerId) -> Option<Rc<Broker>> {
        self.node(id)?.broker()
    }

    /// Lets time pass, to `end` or until this holds. Whether it does.
    pub(super) fn pass_until(
        self: &Rc<Self>,
        end: i64,
        mut holds: impl FnMut() -> bool,
    ) -> Result<bool, Violation> {
        loop {
            self.run();
            self.check_candidates();
            if let Some(violation) = self.violation.borrow().clone() {
                return Err(violation);
            }
            if holds() {
                return Ok(true);
            }
            if !self.clock.advance(end) {
                return Ok(false);
            }
        }
    }

    fn run(&self) {
        let mut rounds = 0_u32;
        loop {
            let mut any = self.tasks.run_until_stalled();
            for node in &self.nodes {
                any |= node.run();
            }
            if !any {
                return;
            }
            rounds += 1;
            if rounds > 100_000 {
                return self.note(Err(Violation("tasks wake each other for ever".to_owned())));
            }
        }
    }

    /// Who may be elected has all that is committed.
    fn check_candidates(&self) {
        let checker = self.checker.borrow();
        for (log, facts) in checker.metadata.newest() {
            let Some(records) = checker.records.get(&log) else {
                continue;
            };
            for id in facts.in_sync.iter().chain(&facts.eligible) {
                let broker = self.running(BrokerId(*id));
                let Some(partition) = broker.and_then(|broker| broker.open_partition(log)) else {
                    continue;
                };
                let checked = records.candidate(*id, partition.durable_end(), facts.leader_epoch);
                self.note(checked);
            }
        }
    }

    /// Asks a broker something, over the network. `None`: no answer comes, and whether something was done is
    /// unknown.
    pub(super) async fn ask<T: 'static, F: Future<Output = T> + 'static>(
        self: &Rc<Self>,
        from: Address,
        to: BrokerId,
        handle: impl FnOnce(Rc<Broker>) -> F + 'static,
    ) -> Option<T> {
        self.begin_ask(from, to, handle).await
    }

    /// As [`World::ask`]; the question leaves at once, and behind those that left before it.
    pub(super) fn begin_ask<T: 'static, F: Future<Output = T> + 'static>(
        self: &Rc<Self>,
        from: Address,
        to: BrokerId,
        handle: impl FnOnce(Rc<Broker>) -> F + 'static,
    ) -> Take<T> {
        let (give, take) = slot();
        let Some(at) = self.network.stream(from, to.0, self.clock.now()) else {
            return take;
        };
        let world = Rc::clone(self);
        self.clock.call_at(at, move || {
            let Some(broker) = world.running(to) else {
                return;
            };
            if !world.network.passes(from, to.0) {
                return;
            }
            let world = Rc::clone(&world);
            broker.arrive(move |broker| {
                let answering = handle(Rc::clone(broker));
                broker.spawn(async move {
                    let answer = answering.await;
                    let now = world.clock.now();
                    if let Some(at) = world.network.stream(to.0, from, now) {
                        let clock = Rc::clone(&world.clock);
                        clock.call_at(at, move || {
                            if world.network.passes(to.0, from) {
                                give.give(answer);
                            }
                        });
                    }
                });
            });
        });
        take
    }

    /// The history is over: what waits holds the world, and lets it go.
    pub(super) fn close(&self) {
        for node in &self.nodes {
            node.close();
        }
        self.tasks.kill_all();
        self.clock.clear();
    }
}
