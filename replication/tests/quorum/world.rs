//! Nodes, network, disks and time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use bytes::Bytes;
use millrace_model::{BrokerId, Timestamp};
use millrace_replication::cluster::{
    Broker, BrokerState, Cluster, Command, VoterSettings, VoterStep, Voters,
};
use millrace_replication::quorum::{
    Body, Effect, Input, MembershipChange, Message, Payload, ProposalId, Quorum, QuorumSettings,
    Recovered, Term,
};

use crate::checks::Checks;
use crate::disk::Disk;
use crate::load;

/// A shell that does not do as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A vote is gone after a crash.
    #[cfg_attr(
        not(feature = "planted-faults"),
        allow(dead_code, reason = "the test of it is long")
    )]
    ForgetsVote,
    /// A write is said to be durable before it is.
    PersistsLater,
}

/// What a history is to be.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    voters: u32,
    spares: u32,
    /// Members change by the leader's judgement, and brokers are decommissioned.
    judged: bool,
    broken: Option<Broken>,
}

impl Plan {
    pub(crate) fn nodes(voters: u32) -> Self {
        Self {
            voters,
            spares: 0,
            judged: false,
            broken: None,
        }
    }

    pub(crate) fn with_members_changing(self, spares: u32) -> Self {
        Self { spares, ..self }
    }

    pub(crate) fn with_voters_judged(self, spares: u32) -> Self {
        Self {
            spares,
            judged: true,
            ..self
        }
    }

    pub(crate) fn broken(self, broken: Broken) -> Self {
        let broken = Some(broken);
        Self { broken, ..self }
    }
}

/// What happened in a history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) commands: u64,
    pub(crate) accepted_in_sync_changes: u64,
    pub(crate) snapshots_installed: u64,
    pub(crate) crashes: u64,
    pub(crate) end: Vec<u8>,
    pub(crate) term: Term,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver(Vec<u8>, BrokerId),
    Written(BrokerId, u64),
    Tick(BrokerId, u64),
    Restart(BrokerId),
    Fault,
    Propose,
}

struct Node {
    disk: Disk,
    /// None while it is down.
    quorum: Option<Quorum>,
    life: u64,
    image: Cluster,
    tick_at: Option<i64>,
    written_at: i64,
}

pub(crate) struct World {
    now: i64,
    random: fastrand::Rng,
    plan: Plan,
    settings: QuorumSettings,
    nodes: BTreeMap<BrokerId, Node>,
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    /// What is to be said to a node once the effects in hand are carried out.
    inbox: VecDeque<(BrokerId, Input)>,
    count: u64,
    cut: BTreeSet<(BrokerId, BrokerId)>,
    crash_soon: Option<BrokerId>,
    checks: Checks,
    is_faulty: bool,
    snapshots: u64,
    crashes: u64,
    next_proposal: u64,
}

/// How long faults go on, and how long the cluster has to heal.
const FAULTY_MS: i64 = 5_000;
const HEALING_MS: i64 = 4_000;

impl World {
    pub(crate) fn run(seed: u64, plan: Plan) -> Result<Report, String> {
        let mut world = Self::new(seed, plan);
        world.run_until(FAULTY_MS)?;
        world.heal()?;
        world.run_until(FAULTY_MS + HEALING_MS)?;
        if world.plan.judged {
            world.settle_voters()?;
        }
        world.settle()?;
        world.checks.at_the_end()?;
        let ends = world.healthy()?;
        Ok(Report {
            commands: world.checks.acknowledgements(),
            accepted_in_sync_changes: world.checks.accepted,
            snapshots_installed: world.snapshots,
            crashes: world.crashes,
            end: ends.0,
            term: ends.1,
        })
    }

    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // Impatient nodes hold many elections.
        let election_timeout_ms = random.u64(20..300);
        let settings = QuorumSettings {
            election_timeout_ms,
            heartbeat_interval_ms: election_timeout_ms / 5 + 4,
            entries_per_snapshot: random.u64(5..60),
            entries_kept: random.u64(0..20),
        };
        let mut world = Self {
            now: 0,
            random,
            plan,
            settings,
            nodes: BTreeMap::new(),
            events: BinaryHeap::new(),
            inbox: VecDeque::new(),
            count: 0,
            cut: BTreeSet::new(),
            crash_soon: None,
            checks: Checks::default(),
            is_faulty: true,
            snapshots: 0,
            crashes: 0,
            next_proposal: 1,
        };
        let voters = (1..=plan.voters).map(BrokerId);
        for id in (1..=plan.voters + plan.spares).map(BrokerId) {
            let recovered = match id.0 <= plan.voters {
                true => Recovered::bootstrap(voters.clone()),
                false => Recovered::default(),
            };
            let node = Node {
                disk: Disk::holding(recovered.clone()),
                quorum: None,
                life: 0,
                image: Cluster::default(),
                tick_at: None,
                written_at: 0,
            };
            world.nodes.insert(id, node);
            world.start(id, recovered).expect("it is a fresh disk");
        }
        world.after(1, Event::Propose);
        world.after(300, Event::Fault);
        world
    }

    fn after(&mut self, ms: i64, event: Event) {
        self.count += 1;
        self.events
            .push(Reverse((self.now + ms, self.count, event)));
    }

    fn run_until(&mut self, end: i64) -> Result<(), String> {
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                break;
            };
            self.now = at;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver(bytes, to) => {
                let message = Message::from_bytes(&bytes.into()).expect("it was encoded here");
                self.input(to, Input::Message(message))
            }
            Event::Written(id, life) => {
                let node = self.node(id);
                if node.life != life {
                    return Ok(());
                }
                match node.disk.complete() {
                    Some(write) => self.input(id, Input::Persisted(write)),
                    None => Ok(()),
                }
            }
            Event::Tick(id, life) => {
                let now = self.now;
                let node = self.node(id);
                if node.life != life || node.tick_at != Some(now) {
                    return Ok(());
                }
                node.tick_at = None;
                self.input(id, Input::Tick)
            }
            Event::Restart(id) => self.restart(id),
            Event::Fault => {
                if self.is_faulty {
                    let next = self.random.i64(20..400);
                    self.after(next, Event::Fault);
                    self.fault()?;
                }
                Ok(())
            }
            Event::Propose => {
                let next = self.random.i64(1..25);
                if self.is_faulty {
                    self.after(next, Event::Propose);
                }
                self.propose()
            }
        }
    }

    fn node(&mut self, id: BrokerId) -> &mut Node {
        self.nodes.get_mut(&id).expect("there is such a node")
    }

    fn input(&mut self, id: BrokerId, input: Input) -> Result<(), String> {
        self.inbox.push_back((id, input));
        while let Some((id, input)) = self.inbox.pop_front() {
            let mut effects = Vec::new();
            let now = Timestamp(self.now);
            let Some(quorum) = &mut self.node(id).quorum else {
                continue;
            };
            quorum.handle(now, input, &mut effects);
            for effect in effects {
                self.carry_out(id, effect)?;
            }
            self.plan_tick(id);
            if let Some(id) = self.crash_soon.take() {
                let down_for = self.random.i64(1..10);
                self.crash(id, down_for);
            }
        }
        Ok(())
    }

    fn plan_tick(&mut self, id: BrokerId) {
        let now = self.now;
        let node = self.node(id);
        let Some(quorum) = &node.quorum else {
            return;
        };
        let at = quorum.deadline().0.max(now + 1);
        if node
            .tick_at
            .is_none_or(|planned| planned > at || planned < now)
        {
            node.tick_at = Some(at);
            let life = node.life;
            self.after(at - now, Event::Tick(id, life));
        }
    }

    fn carry_out(&mut self, id: BrokerId, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Persist(write) => {
                let delay = match self.is_faulty && self.random.u32(..20) == 0 {
                    true => self.random.i64(20..200),
                    false => self.random.i64(0..5),
                };
                let now = self.now;
                let node = self.node(id);
                let number = write.id;
                node.disk.submit(write);
                // In order, whatever each of them takes.
                node.written_at = node.written_at.max(now + delay);
                let (at, life) = (node.written_at, node.life);
                self.after(at - now, Event::Written(id, life));
                if self.plan.broken == Some(Broken::PersistsLater) {
                    self.inbox.push_back((id, Input::Persisted(number)));
                }
                Ok(())
            }
            Effect::Send(message) => {
                self.send(&message);
                let voted = matches!(message.body, Body::VoteAnswer { granted: true });
                if voted && self.is_faulty && self.random.u32(..4) == 0 {
                    // Just after a vote is the best time to forget it.
                    self.crash_soon = Some(id);
                }
                Ok(())
            }
            Effect::Committed { entry, proposal } => {
                let outcome = self.apply(id, &entry.index, &entry.payload)?;
                self.checks.applied(id, &entry, &outcome)?;
                match proposal {
                    Some(proposal) => self.checks.acknowledged(proposal, &entry),
                    None => Ok(()),
                }
            }
            Effect::Restore(snapshot) => {
                self.snapshots += 1;
                let image = Cluster::from_snapshot(&snapshot.data);
                self.node(id).image = image.map_err(|error| error.to_string())?;
                Ok(())
            }
            Effect::SnapshotWanted { index } => {
                let data = self.node(id).image.to_snapshot().into();
                self.inbox
                    .push_back((id, Input::SnapshotTaken { index, data }));
                Ok(())
            }
            Effect::BecameLeader { term } => self.checks.leads(id, term),
            Effect::BecameFollower { .. } => Ok(()),
            Effect::Refused { id, why } => {
                self.checks.refused(id, &why);
                Ok(())
            }
            Effect::Violated { from, violation } => Err(format!(
                "{from} violated the protocol towards {id}: {violation}"
            )),
        }
    }

    fn apply(
        &mut self,
        id: BrokerId,
        index: &millrace_replication::quorum::Index,
        payload: &Payload,
    ) -> Result<String, String> {
        let Payload::Command(bytes) = payload else {
            return Ok(String::new());
        };
        let command = Command::from_bytes(bytes).map_err(|error| error.to_string())?;
        let node = self.nodes.get_mut(&id).expect("it applies");
        let before = node.image.clone();
        let applied = node.image.apply(*index, &command);
        let after = node.image.clone();
        if *index > self.checks.last() {
            let applied = applied.as_ref().ok();
            self.checks.step(&before, &after, &command, applied)?;
        }
        Ok(format!("{applied:?}"))
    }

    fn send(&mut self, message: &Message) {
        let bytes = message.to_bytes();
        assert_eq!(Message::from_bytes(&bytes).as_ref(), Ok(message));
        let (from, to) = (message.from, message.to);
        if !self.nodes.contains_key(&to) || self.cut.contains(&(from, to)) {
            return;
        }
        let copies = match self.is_faulty {
            true => [0, 1, 1, 1, 1, 1, 1, 1, 1, 2][self.random.usize(..10)],
            false => 1,
        };
        for _ in 0..copies {
            let delay = match self.is_faulty && self.random.u32(..30) == 0 {
                true => self.random.i64(50..1_500),
                false => self.random.i64(1..8),
            };
            self.after(delay, Event::Deliver(bytes.to_vec(), to));
        }
    }

    fn start(&mut self, id: BrokerId, mut recovered: Recovered) -> Result<(), String> {
        if self.plan.broken == Some(Broken::ForgetsVote) {
            recovered.hard_state.vote = None;
        }
        let image = match recovered.snapshot.data.is_empty() {
            true => Cluster::default(),
            false => Cluster::from_snapshot(&recovered.snapshot.data).map_err(|e| e.to_string())?,
        };
        let (now, seed) = (Timestamp(self.now), self.random.u64(..));
        let quorum = Quorum::new(id, self.settings, recovered, seed, now);
        let quorum = quorum.map_err(|error| error.to_string())?;
        let node = self.node(id);
        node.quorum = Some(quorum);
        node.image = image;
        node.tick_at = None;
        node.written_at = now.0;
        self.plan_tick(id);
        Ok(())
    }

    fn restart(&mut self, id: BrokerId) -> Result<(), String> {
        if self.node(id).quorum.is_some() {
            return Ok(());
        }
        let mut random = self.random.fork();
        let recovered = self.node(id).disk.crash(&mut random);
        self.start(id, recovered)
    }

    fn crash(&mut self, id: BrokerId, down_for: i64) {
        self.crashes += 1;
        let node = self.node(id);
        node.quorum = None;
        node.life += 1;
        self.after(down_for, Event::Restart(id));
    }

    fn pick(&mut self) -> BrokerId {
        let ids: Vec<BrokerId> = self.nodes.keys().copied().collect();
        ids[self.random.usize(..ids.len())]
    }

    fn leader(&self) -> Option<BrokerId> {
        let leads = |(id, node): (&BrokerId, &Node)| {
            let quorum = node.quorum.as_ref()?;
            (quorum.leader() == Some(*id)).then_some((quorum.status().term, *id))
        };
        self.nodes.iter().filter_map(leads).max().map(|(_, id)| id)
    }

    fn fault(&mut self) -> Result<(), String> {
        let id = self.pick();
        match self.random.u32(..10) {
            0..=3 => {
                // The leader is the most interesting one to lose.
                let id = self.leader().filter(|_| self.random.bool()).unwrap_or(id);
                let down_for = self.random.i64(1..800);
                self.crash(id, down_for);
            }
            4..=5 => {
                for other in self.nodes.keys().copied().collect::<Vec<_>>() {
                    match self.random.u32(..3) {
                        0 => self.cut.insert((id, other)),
                        1 => self.cut.insert((other, id)),
                        _ => false,
                    };
                }
            }
            6..=8 => self.cut.clear(),
            _ => {
                if let Some(leader) = self.leader() {
                    self.input(leader, Input::TransferLeadership { to: id })?;
                }
            }
        }
        if self.plan.spares > 0 && self.random.bool() {
            self.change_members()?;
        }
        Ok(())
    }

    fn change_members(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else {
            return Ok(());
        };
        if self.plan.judged {
            return self.judge_members(leader);
        }
        let whom = self.pick();
        let change = match self.random.u32(..6) {
            0..=1 => MembershipChange::AddLearner(whom),
            2..=3 => MembershipChange::Promote(whom),
            4 => MembershipChange::Demote(whom),
            _ => MembershipChange::Remove(whom),
        };
        let id = self.number();
        self.input(leader, Input::ChangeMembership { id, change })
    }

    /// What a leader does by itself, by what it has applied and hears.
    fn judge_members(&mut self, leader: BrokerId) -> Result<(), String> {
        let node = &self.nodes[&leader];
        let status = node.quorum.as_ref().expect("it leads").status();
        let voters = Voters::new(VoterSettings::default());
        match voters.next_step(Timestamp(self.now), &node.image, &status) {
            None => Ok(()),
            Some(VoterStep::HandOver(to)) => self.input(leader, Input::TransferLeadership { to }),
            Some(VoterStep::Change(change)) => {
                let id = self.number();
                self.input(leader, Input::ChangeMembership { id, change })
            }
        }
    }

    /// In the end nobody votes who is being decommissioned, unless nobody else could.
    fn settle_voters(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            if let Some(leader) = self.leader() {
                self.judge_members(leader)?;
            }
            self.run_until(self.now + 100)?;
        }
        let leader = self.leader().ok_or("nobody leads")?;
        let node = &self.nodes[&leader];
        let voters = node.quorum.as_ref().expect("it leads").status();
        let voters = voters.membership.voters;
        let stays = |id: &BrokerId| node.image.broker(*id).is_none_or(|it| !it.cordoned);
        let could = |it: &Broker| it.state == BrokerState::Active && !it.cordoned;
        let could = node.image.brokers().any(could);
        match could && !voters.iter().all(stays) {
            true => Err(format!(
                "{voters:?} vote although some are to go: {}",
                self.describe()
            )),
            false => Ok(()),
        }
    }

    fn number(&mut self) -> ProposalId {
        self.next_proposal += 1;
        ProposalId(self.next_proposal)
    }

    fn propose(&mut self) -> Result<(), String> {
        let to = match self.random.u32(..10) {
            0 => Some(self.pick()),
            _ => self.leader(),
        };
        self.propose_to(to)
    }

    fn propose_to(&mut self, to: Option<BrokerId>) -> Result<(), String> {
        let Some(to) = to else {
            return Ok(());
        };
        // From an image that may be old.
        let seen = self.pick();
        let image = self.node(seen).image.clone();
        let command = match self.plan.judged && self.random.u32(..12) == 0 {
            true => load::cordon(&mut self.random),
            false => load::command(&image, &mut self.random),
        };
        let bytes = command.to_bytes();
        let id = self.number();
        self.checks.proposed.insert(id, bytes.clone());
        let command = Bytes::from(bytes);
        self.input(to, Input::Propose { id, command })
    }

    fn heal(&mut self) -> Result<(), String> {
        self.is_faulty = false;
        self.cut.clear();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.restart(id)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let line = |(id, node): (&BrokerId, &Node)| {
            let status = node.quorum.as_ref().map(Quorum::status);
            format!("\n{id} at {}: {status:?}", self.now)
        };
        self.nodes.iter().map(line).collect()
    }

    /// One more command, for what is behind to come after.
    fn settle(&mut self) -> Result<(), String> {
        if self.leader().is_none() {
            return Err(format!(
                "nobody leads although nothing is wrong: {}",
                self.describe()
            ));
        }
        let before = self.checks.last();
        for _ in 0..3 {
            // Not to anybody, who may refuse it: to the leader.
            self.propose_to(self.leader())?;
            self.run_until(self.now + 500)?;
        }
        match self.checks.last() > before {
            true => Ok(()),
            false => Err(format!(
                "nothing is committed although nothing is wrong: {}",
                self.describe()
            )),
        }
    }

    /// Every member has the same state, and all that was ever applied.
    fn healthy(&mut self) -> Result<(Vec<u8>, Term), String> {
        let leader = self.leader().ok_or("nobody leads")?;
        let status = self.nodes[&leader]
            .quorum
            .as_ref()
            .expect("it leads")
            .status();
        let end = self.nodes[&leader].image.to_snapshot();
        for member in status.membership.members() {
            let node = &self.nodes[&member];
            let applied = node.quorum.as_ref().map(|quorum| quorum.status().applied);
            if applied != Some(self.checks.last()) {
                let last = self.checks.last();
                return Err(format!("{member} has applied {applied:?} of {last}"));
            }
            if node.image.to_snapshot() != end {
                return Err(format!("{member} has another state than {leader}"));
            }
        }
        Ok((end, status.term))
    }
}
