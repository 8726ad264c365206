//! One history: a cluster comes up, things go wrong under load, then they go well again, and all must be as if
//! nothing had been.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use millrace_model::{BrokerId, GROUP_OFFSETS_TOPIC, LogId, TopicId};
use millrace_replication::cluster::ClusterRequest;

use super::clients::{Consumer, Link, Member, Producer, Seen};
use super::faults::Faults;
use super::healing;
use super::nemesis::Nemesis;
use super::network::CLIENTS;
use super::world::{OFFSETS, ORDERS, ORDERS_NAME, PARTITIONS, World, orders, trace};
use crate::sim::trace::{Trace, Violation, ensure};

/// Within this the cluster has come up and has its topics.
const SETUP_MS: i64 = 15_000;

/// How long things go wrong.
const CHAOS_MS: i64 = 6_000;

/// So long after that, producers send nothing new.
const QUIET_MS: i64 = 1_500;

/// Within this of the last fault, all is well.
const HEAL_MS: i64 = 30_000;

/// Members of the group.
const MEMBERS: u32 = 3;

/// What a history that went well has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Virtual time.
    pub simulated_ms: i64,
    /// Batches that producers were told are kept.
    pub acknowledged: u64,
    /// Records that consumers were handed.
    pub read: u64,
    /// Offsets committed by members of groups.
    pub commits: u64,
    /// The longest time that healing took.
    pub healed_after_ms: i64,
    /// What went wrong.
    pub faults: Faults,
}

impl Summary {
    pub(super) fn merge(&mut self, other: &Self) {
        self.simulated_ms += other.simulated_ms;
        self.acknowledged += other.acknowledged;
        self.read += other.read;
        self.commits += other.commits;
        self.healed_after_ms = self.healed_after_ms.max(other.healed_after_ms);
        self.faults.merge(&other.faults);
    }
}

/// The clients of a world, as far as others need to see them.
pub(super) struct Clients {
    pub(super) producers: Vec<Rc<Cell<bool>>>,
    pub(super) consumers: Vec<(LogId, Rc<Cell<u64>>)>,
    pub(super) members: RefCell<Vec<Rc<Seen>>>,
    last: Cell<u32>,
}

impl Clients {
    fn link(&self, world: &Rc<World>) -> Link {
        self.last.set(self.last.get() + 1);
        Link {
            world: Rc::clone(world),
            address: CLIENTS + self.last.get(),
        }
    }

    /// Another member joins the group.
    pub(super) fn add_member(&self, world: &Rc<World>) {
        let seen = Rc::new(Seen::default());
        let member = Member::new(self.link(world), 1, Rc::clone(&seen));
        world.tasks.spawn(member.run());
        self.members.borrow_mut().push(seen);
    }
}

/// Runs the history of `seed`.
///
/// # Errors
/// The first thing that happened and must not.
pub(super) fn run(seed: u64, trace: Rc<Trace>) -> Result<Summary, Violation> {
    let world = World::new(seed, trace);
    let done = run_in(&world);
    world.close();
    done
}

fn run_in(world: &Rc<World>) -> Result<Summary, Violation> {
    set_up(world)?;
    let clients = Rc::new(start_clients(world));
    let nemesis = Nemesis::new(world, &clients);
    let chaos_ends = world.clock.now() + CHAOS_MS;
    nemesis.begin(chaos_ends);
    world.pass_until(chaos_ends, || false)?;
    let heal_began = world.clock.now();
    trace!(world, "all is made well");
    nemesis.end();
    let quiet = Rc::clone(world);
    world
        .clock
        .call_at(heal_began + QUIET_MS, move || quiet.quiet.set(true));
    let bound = heal_began + HEAL_MS;
    let healed = world.pass_until(bound, || healing::missing(world, &clients).is_none())?;
    ensure!(
        healed,
        "{HEAL_MS} ms after the last fault: {}",
        healing::missing(world, &clients).unwrap_or_default()
    );
    trace!(world, "all is well");
    let healed_after_ms = world.clock.now() - heal_began;
    healing::audit(world)?;
    let mut faults = world.faults.borrow().clone();
    faults.add(
        super::faults::Fault::Disordered,
        world.network.disordered.get(),
    );
    let checker = world.checker.borrow();
    Ok(Summary {
        simulated_ms: world.clock.now(),
        acknowledged: checker.acknowledged(),
        read: checker.read(),
        commits: checker.groups.commits(),
        healed_after_ms,
        faults,
    })
}

fn set_up(world: &Rc<World>) -> Result<(), Violation> {
    world.checker.borrow_mut().of(OFFSETS).may_repeat = true;
    for node in &world.nodes {
        if world.voters.contains(&node.id) {
            node.start(world);
        }
    }
    let ready = Rc::new(Cell::new(false));
    let (asking, done) = (Rc::clone(world), Rc::clone(&ready));
    world.tasks.spawn(async move {
        create(&asking, GROUP_OFFSETS_TOPIC, OFFSETS.topic, 1).await;
        create(&asking, ORDERS_NAME, ORDERS, PARTITIONS).await;
        done.set(true);
    });
    let end = world.clock.now() + SETUP_MS;
    let is_up = world.pass_until(end, || ready.get())?;
    ensure!(is_up, "the cluster has no topics after {SETUP_MS} ms");
    Ok(())
}

async fn create(world: &Rc<World>, name: &str, id: TopicId, partitions: u32) {
    let request = ClusterRequest::CreateTopic {
        name: name.to_owned(),
        id,
        partitions,
        replication: 3,
        overrides: vec![(
            "min.insync.replicas".to_owned(),
            world.min_in_sync.to_string(),
        )],
        internal: id == OFFSETS.topic,
    };
    loop {
        world.clock.sleep(100).await;
        let voters = world.voters.len() as u64;
        let index = usize::try_from(world.below(voters)).unwrap_or(0);
        let to: BrokerId = world.voters[index];
        let request = request.clone();
        let asked = world.ask(CLIENTS, to, move |broker| async move {
            broker.controller().request(request).await
        });
        match asked.await {
            Some(Ok(_)) => return,
            Some(Err(refusal)) => trace!(world, "no topic yet: {refusal}"),
            None => {}
        }
    }
}

fn start_clients(world: &Rc<World>) -> Clients {
    let mut clients = Clients {
        producers: Vec::new(),
        consumers: Vec::new(),
        members: RefCell::default(),
        last: Cell::new(0),
    };
    for partition in 0..PARTITIONS {
        let log = orders(partition);
        let plain = u64::from(world.one_in(3));
        for index in 0..1 + world.below(2) + plain {
            let done = Rc::new(Cell::new(false));
            let producer = Producer {
                link: clients.link(world),
                log,
                idempotent: index > 0 || plain == 0,
                done: Rc::clone(&done),
            };
            world.tasks.spawn(producer.run());
            clients.producers.push(done);
        }
        let position = Rc::new(Cell::new(0));
        let consumer = Consumer {
            link: clients.link(world),
            log,
            position: Rc::clone(&position),
        };
        world.tasks.spawn(consumer.run());
        clients.consumers.push((log, position));
    }
    for _ in 0..MEMBERS {
        clients.add_member(world);
    }
    clients
}
