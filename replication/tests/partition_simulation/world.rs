//! The simulated world: brokers, their disks and network, a controller, producers and a consumer,
//! on one thread in virtual time. One seed gives one history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millrace_model::{BrokerId, ErrorCode, Offset};
use millrace_replication::partition::{
    Acks, Admission, AlterAnswer, Effect, FollowerInput, FollowerMessage, FramesHeader, Input,
    LeaderInput, LeaderMessage, Proposal, ProposalId, PullClass, ReplicaSettings, Role, SessionId,
    Watermark,
};

use super::checker::{Checked, Checker, Violation, ensure};
use super::controller::{Controller, Image};
use super::faults::{CHOICES, Counts, Fault};
use super::log::{Record, runs};
use super::network::{Address, CALM, CONTROLLER, Network, Weather};
use super::node::{Node, Waiting};

/// How long things go wrong.
const CHAOS_MS: i64 = 5_000;

/// Within this of the last fault, all is well again.
const HEAL_MS: i64 = 4_000;

/// Producing ends so long before, and what was produced is everywhere.
const QUIET_MS: i64 = 500;

const HEARTBEAT_MS: i64 = 60;
const ALTER_TIMEOUT_MS: i64 = 150;
const CONTROLLER_TICK_MS: i64 = 50;

/// Frames of one push hold about so many records.
const READ_RECORDS: u64 = 8;

#[derive(Clone, Debug)]
enum Payload {
    ToLeader(FollowerMessage),
    ToFollower(SessionId, LeaderMessage, Vec<Record>),
    Register {
        boot: u64,
        clean: bool,
    },
    Registered {
        boot: u64,
        life: u64,
    },
    Heartbeat {
        life: u64,
        heard: u64,
    },
    Image(Image),
    Alter {
        boot: u64,
        life: u64,
        proposal: Proposal,
    },
    Altered {
        boot: u64,
        id: ProposalId,
        answer: AlterAnswer,
    },
}

#[derive(Clone, Debug)]
enum Event {
    Deliver {
        from: Address,
        to: Address,
        payload: Payload,
    },
    Written {
        node: u32,
        boot: u64,
        number: u64,
    },
    Cut {
        node: u32,
        boot: u64,
        to: u64,
        reset: bool,
    },
    Read {
        node: u32,
        boot: u64,
        to: u32,
        session: SessionId,
        from: u64,
        watermark: Watermark,
    },
    Tick {
        node: u32,
        boot: u64,
        at: i64,
    },
    AlterTimeout {
        node: u32,
        boot: u64,
        id: ProposalId,
    },
    StreamLost {
        one: u32,
        other: u32,
    },
    Beat(u32),
    ControllerTick,
    Produce,
    Consume,
    Fault,
    Restart(u32),
    Mend {
        from: Address,
        to: Address,
    },
    Calm,
    Heal,
}

/// What a run that went well has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) virtual_ms: i64,
    pub(crate) acknowledged: u64,
    pub(crate) read: u64,
    pub(crate) epochs: u64,
    pub(crate) faults: Counts,
}

pub(crate) struct World {
    now: i64,
    random: fastrand::Rng,
    events: BTreeMap<(i64, u64), Event>,
    sequence: u64,
    nodes: Vec<Node>,
    controller: Controller,
    network: Network,
    checker: Checker,
    settings: ReplicaSettings,
    next_value: u64,
    writes: u64,
    position: u64,
    announced: u64,
    lost_streams: BTreeSet<(u32, u32)>,
    healed: Option<(i64, u64)>,
    faults: Counts,
    steps: u64,
    /// What happened, if it is to be kept.
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let brokers = [2, 3, 3, 3, 3, 5][random.usize(0..6)];
        let min_in_sync = random.u32(1..=brokers.min(3));
        let mut world = Self {
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: (0..brokers)
                .map(|id| Node::new(id, brokers, random.i64(0..2_000)))
                .collect(),
            controller: Controller::new(brokers, min_in_sync),
            network: Network::new(random.u64(..)),
            checker: Checker::default(),
            settings: ReplicaSettings {
                min_in_sync,
                max_lag_ms: 300,
                min_backoff_ms: 10,
                max_backoff_ms: 160,
                subscribe_timeout_ms: 250,
                catch_up_lag: 40,
            },
            next_value: 0,
            writes: 0,
            position: 0,
            announced: 0,
            lost_streams: BTreeSet::new(),
            healed: None,
            faults: Counts::default(),
            steps: 0,
            trace: traced.then(Vec::new),
            random,
        };
        for id in 0..brokers {
            world.after(1, Event::Beat(id));
        }
        world.after(1, Event::ControllerTick);
        world.after(20, Event::Produce);
        world.after(25, Event::Consume);
        world.after(300, Event::Fault);
        world.after(CHAOS_MS, Event::Heal);
        world
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Result<Report, Violation> {
        while let Some((&(at, sequence), _)) = self.events.first_key_value() {
            if at > CHAOS_MS + HEAL_MS {
                break;
            }
            let event = self
                .events
                .remove(&(at, sequence))
                .expect("it was just seen");
            self.now = at;
            if let Some(until) = self.pause_of(&event) {
                self.schedule(until, event);
                continue;
            }
            self.step(event)?;
            self.announce();
            self.check_candidates()?;
        }
        self.check_healed()?;
        self.faults.add(Fault::LostMessage, self.network.lost);
        self.faults.add(Fault::DoubledMessage, self.network.doubled);
        self.faults
            .add(Fault::ReorderedMessage, self.network.reordered);
        Ok(Report {
            virtual_ms: self.now,
            acknowledged: self.checker.acknowledged,
            read: self.checker.read,
            epochs: u64::from(self.controller.leader_epoch),
            faults: self.faults.clone(),
        })
    }

    fn step(&mut self, event: Event) -> Checked {
        match event {
            Event::Deliver { from, to, payload } => return self.deliver(from, to, payload),
            Event::Written { node, boot, number } if self.is_boot(node, boot) => {
                return self.written(node, number);
            }
            Event::Cut {
                node,
                boot,
                to,
                reset,
            } if self.is_boot(node, boot) => {
                self.note(|| format!("broker {node}: log cut to {to}"));
                self.checker.cut(node, to);
                let log = &mut self.node(node).log;
                match reset {
                    true => log.reset(to),
                    false => log.truncate(to),
                }
                let ends = log.ends();
                self.checker.cut(node, ends.accepted.0);
                return self.input(node, Input::Cut(ends));
            }
            Event::Read {
                node,
                boot,
                to,
                session,
                from,
                watermark,
            } if self.is_boot(node, boot) => {
                return self.read(node, (to, session), from, watermark);
            }
            Event::Tick { node, boot, at } if self.is_boot(node, boot) => {
                if self.node(node).tick_at == Some(at) {
                    self.node(node).tick_at = None;
                    return self.input(node, Input::Tick);
                }
            }
            Event::AlterTimeout { node, boot, id } if self.is_boot(node, boot) => {
                let answer = AlterAnswer::Unknown;
                return self.input(node, Input::Leader(LeaderInput::Answered { id, answer }));
            }
            Event::StreamLost { one, other } => return self.stream_lost(one, other),
            Event::Beat(node) => self.beat(node),
            Event::ControllerTick => {
                self.controller.tick(self.now);
                self.after(CONTROLLER_TICK_MS, Event::ControllerTick);
            }
            Event::Produce => return self.produce(),
            Event::Consume => return self.consume(),
            Event::Fault => return self.fault(),
            Event::Restart(node) => {
                self.note(|| format!("broker {node} starts"));
                self.node(node).up = true;
            }
            Event::Mend { from, to } => {
                self.network.cut.remove(&(from, to));
            }
            Event::Calm => self.network.weather = CALM,
            Event::Heal => self.heal(),
            // Of an earlier start of the process.
            Event::Written { .. }
            | Event::Cut { .. }
            | Event::Read { .. }
            | Event::Tick { .. }
            | Event::AlterTimeout { .. } => {}
        }
        Ok(())
    }

    // Brokers.

    /// Hands an input to a replica and carries out what it says, and what follows.
    fn input(&mut self, id: u32, input: Input) -> Checked {
        self.input_with(id, input, &[])
    }

    fn input_with(&mut self, id: u32, input: Input, frames: &[Record]) -> Checked {
        let mut inputs = VecDeque::from([input]);
        let mut frames = frames;
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.note(|| format!("broker {id} <- {input:?}"));
            let now = self.now;
            let node = self.node(id);
            let clock = node.clock(now);
            let Some(replica) = &mut node.replica else {
                return Ok(());
            };
            replica.handle(clock, input, &mut effects);
            for effect in effects.drain(..) {
                self.note(|| format!("broker {id}    -> {effect:?}"));
                self.effect(id, effect, frames, &mut inputs)?;
            }
            frames = &[];
            self.settle(id)?;
        }
        Ok(())
    }

    fn effect(
        &mut self,
        id: u32,
        effect: Effect,
        frames: &[Record],
        inputs: &mut VecDeque<Input>,
    ) -> Checked {
        let boot = self.nodes[id as usize].boot;
        match effect {
            Effect::HighWatermark(Offset(watermark)) => {
                let node = &self.nodes[id as usize];
                let replica = node.replica.as_ref().expect("it has just spoken");
                match replica.role() {
                    Role::Leader(leader) => {
                        let epoch = leader.epoch().0;
                        self.checker
                            .leader_watermark(id, epoch, watermark, &node.log)?;
                    }
                    Role::Follower(_) => {
                        self.checker.follower_watermark(id, watermark, &node.log)?;
                    }
                    Role::Idle(_) => {}
                }
            }
            Effect::FailWaiting => {
                self.node(id)
                    .waiting
                    .retain(|batch| batch.acks != Acks::All);
            }
            Effect::LeadershipLost => {
                self.node(id).waiting.clear();
                inputs.push_back(Input::Log(self.node(id).log.ends()));
            }
            Effect::Propose(proposal) => {
                let (proposed, life) = (proposal.id, self.node(id).life.expect("registered"));
                self.send(
                    id,
                    CONTROLLER,
                    &Payload::Alter {
                        boot,
                        life,
                        proposal,
                    },
                );
                let timeout = Event::AlterTimeout {
                    node: id,
                    boot,
                    id: proposed,
                };
                self.after(ALTER_TIMEOUT_MS, timeout);
            }
            Effect::Send {
                to,
                session,
                message,
            } => {
                self.send(id, to.0, &Payload::ToFollower(session, message, Vec::new()));
            }
            Effect::SendFrames {
                to,
                session,
                from,
                watermark,
                class,
            } => {
                let (to, from) = (to.0, from.0);
                let wait = match class {
                    PullClass::Live => self.random.i64(0..=1),
                    PullClass::CatchUp => self.random.i64(1..=5),
                };
                let read = Event::Read {
                    node: id,
                    boot,
                    to,
                    session,
                    from,
                    watermark,
                };
                self.after(wait, read);
            }
            Effect::Resign => return Err(Violation(format!("broker {id} resigns"))),
            Effect::Pull { to, message } => {
                if let FollowerMessage::Subscribe { session, .. } = message {
                    self.node(id).session = Some(session);
                }
                self.send(id, to.0, &Payload::ToLeader(message));
            }
            Effect::Append => {
                self.node(id).log.append(frames);
                self.write(id);
                inputs.push_back(Input::Log(self.node(id).log.ends()));
            }
            Effect::Truncate(Offset(to)) => self.cut(id, to, false),
            Effect::Reset(Offset(to)) => self.cut(id, to, true),
            Effect::SetLogStart(Offset(start)) => {
                self.node(id).log.set_start(start);
                inputs.push_back(Input::Log(self.node(id).log.ends()));
            }
            Effect::Class(_) => {}
        }
        Ok(())
    }

    fn cut(&mut self, node: u32, to: u64, reset: bool) {
        let boot = self.node(node).boot;
        let wait = self.node(node).disk_ms;
        self.after(
            wait,
            Event::Cut {
                node,
                boot,
                to,
                reset,
            },
        );
    }

    /// What a broker does after each input: tells producers, and sets its alarm.
    fn settle(&mut self, id: u32) -> Checked {
        let node = &mut self.nodes[id as usize];
        let Some(replica) = &node.replica else {
            return Ok(());
        };
        if let Some(leader) = replica.as_leader() {
            if node.led != Some(leader.epoch().0) {
                node.led = Some(leader.epoch().0);
                self.checker.leads(id, leader.epoch().0)?;
            }
            let waiting = std::mem::take(&mut node.waiting);
            for batch in waiting {
                let end = batch.base + batch.records.len() as u64;
                if end > leader.acknowledged_end(batch.acks).0 {
                    node.waiting.push(batch);
                } else if batch.acks == Acks::All {
                    self.checker.acknowledged(batch.base, &batch.records)?;
                }
            }
        }
        let deadline = replica.next_deadline();
        let deadline = deadline.map(|at| (at.0 - node.skew_ms).max(self.now + 1));
        if let Some(at) = deadline
            && node.tick_at.is_none_or(|set| at < set)
        {
            node.tick_at = Some(at);
            let boot = node.boot;
            self.schedule(at, Event::Tick { node: id, boot, at });
        }
        Ok(())
    }

    fn write(&mut self, id: u32) {
        let number = self.writes;
        let slow = self.random.i64(0..=1);
        let node = self.node(id);
        if node.writing.is_none() && node.log.durable() < node.log.end() {
            node.writing = Some((node.log.end(), number));
            let (boot, wait) = (node.boot, node.disk_ms + slow);
            self.writes += 1;
            self.after(
                wait,
                Event::Written {
                    node: id,
                    boot,
                    number,
                },
            );
        }
    }

    fn written(&mut self, id: u32, number: u64) -> Checked {
        let now = self.now;
        let node = &mut self.nodes[id as usize];
        let Some((end, _)) = node.writing.filter(|(_, of)| *of == number) else {
            return Ok(());
        };
        node.writing = None;
        let before = node.log.durable();
        if now < node.disk_full_until {
            node.log.cut_unwritten();
            let end = node.log.end();
            node.waiting.retain(|batch| batch.base < end);
        } else {
            node.log.written(end);
            self.checker.became_durable(id, before, &node.log)?;
        }
        let ends = self.node(id).log.ends();
        self.write(id);
        self.input(id, Input::Log(ends))
    }

    fn read(
        &mut self,
        id: u32,
        (to, session): (u32, SessionId),
        from: u64,
        watermark: Watermark,
    ) -> Checked {
        let node = &self.nodes[id as usize];
        let leads = node
            .replica
            .as_ref()
            .is_some_and(|replica| replica.as_leader().is_some());
        if !leads || node.sessions[to as usize] != Some(session) {
            return Ok(());
        }
        let follower = BrokerId(to);
        if from < node.log.start() {
            let code = ErrorCode::OffsetOutOfRange;
            let input = LeaderInput::SendingFailed {
                to: follower,
                session,
                code,
            };
            return self.input(id, Input::Leader(input));
        }
        let records = node.log.read(from, READ_RECORDS, watermark.end.0);
        let next = from + records.len() as u64;
        let header = FramesHeader {
            base: Offset(from),
            end: Offset(next),
            epochs: runs(&records, from),
            watermark,
        };
        let message = LeaderMessage::Frames(header);
        self.send(id, to, &Payload::ToFollower(session, message, records));
        let next = Offset(next);
        let input = LeaderInput::FramesSent {
            to: follower,
            session,
            next,
        };
        self.input(id, Input::Leader(input))
    }

    fn beat(&mut self, id: u32) {
        self.after(HEARTBEAT_MS, Event::Beat(id));
        let node = self.node(id);
        if node.up {
            let payload = match node.life {
                Some(life) => Payload::Heartbeat {
                    life,
                    heard: node.heard,
                },
                None => Payload::Register {
                    boot: node.boot,
                    clean: node.clean,
                },
            };
            self.send(id, CONTROLLER, &payload);
        }
    }

    // The network.

    fn send(&mut self, from: Address, to: Address, payload: &Payload) {
        let arrivals = self.network.arrivals(from, to, self.now);
        if arrivals.is_empty() {
            self.note(|| format!("lost, {from} to {to}: {payload:?}"));
            self.lose_stream(from, to);
        }
        for at in arrivals {
            let payload = payload.clone();
            self.schedule(at, Event::Deliver { from, to, payload });
        }
    }

    /// A stream between two brokers is lost with a message, which both learn later.
    fn lose_stream(&mut self, from: Address, to: Address) {
        let (one, other) = (from.min(to), from.max(to));
        if other != CONTROLLER && self.lost_streams.insert((one, other)) {
            let wait = self.random.i64(50..200);
            self.after(wait, Event::StreamLost { one, other });
        }
    }

    fn stream_lost(&mut self, one: u32, other: u32) -> Checked {
        self.lost_streams.remove(&(one, other));
        self.faults.add(Fault::LostStream, 1);
        for (leader, follower) in [(one, other), (other, one)] {
            let node = self.node(follower);
            let follows = node
                .replica
                .as_ref()
                .is_some_and(|replica| match replica.role() {
                    Role::Follower(role) => role.leader() == BrokerId(leader),
                    Role::Leader(_) | Role::Idle(_) => false,
                });
            if let Some(session) = node.session.filter(|_| follows) {
                let input = FollowerInput::StreamLost(session);
                self.input(follower, Input::Follower(input))?;
            }
            if let Some(session) = self.node(leader).sessions[follower as usize] {
                let to = BrokerId(follower);
                let code = ErrorCode::BrokerNotAvailable;
                let input = LeaderInput::SendingFailed { to, session, code };
                self.input(leader, Input::Leader(input))?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, from: Address, to: Address, payload: Payload) -> Checked {
        if to == CONTROLLER {
            self.tell_controller(from, payload);
            return Ok(());
        }
        let node = &mut self.nodes[to as usize];
        if !node.up {
            self.lose_stream(from, to);
            return Ok(());
        }
        match payload {
            Payload::Registered { boot, life } if boot == node.boot && node.life.is_none() => {
                // Part of a torn write may be there.
                self.checker.became_durable(to, 0, &node.log)?;
                node.begin(life, 0, self.settings.clone());
            }
            Payload::Image(image) => {
                let known = node.life.zip(image.standings.get(&BrokerId(to)));
                let mine = known.is_some_and(|(life, standing)| standing.life.0 == life);
                if mine && image.version > node.heard {
                    node.heard = image.version;
                    self.input(to, Input::Standings(image.standings))?;
                    self.input(to, Input::Assigned(image.assignment))?;
                }
            }
            Payload::Altered { boot, id, answer } if boot == node.boot => {
                return self.input(to, Input::Leader(LeaderInput::Answered { id, answer }));
            }
            Payload::ToLeader(message) => {
                if node.replica.is_none() {
                    self.lose_stream(from, to);
                    return Ok(());
                }
                let seen = &mut node.sessions[from as usize];
                if matches!(message, FollowerMessage::Subscribe { .. }) {
                    *seen = (*seen).max(Some(message.session()));
                }
                let from = BrokerId(from);
                return self.input(to, Input::FromFollower { from, message });
            }
            Payload::ToFollower(session, message, records) => {
                let input = FollowerInput::Message { session, message };
                return self.input_with(to, Input::Follower(input), &records);
            }
            Payload::Registered { .. }
            | Payload::Altered { .. }
            | Payload::Register { .. }
            | Payload::Heartbeat { .. }
            | Payload::Alter { .. } => {}
        }
        Ok(())
    }

    fn tell_controller(&mut self, from: u32, payload: Payload) {
        match payload {
            Payload::Register { boot, clean } => {
                let registered = self.controller.register(from, boot, clean, self.now);
                if let Some(life) = registered {
                    self.send(CONTROLLER, from, &Payload::Registered { boot, life });
                }
            }
            Payload::Heartbeat { life, heard } => {
                self.controller.heartbeat(from, life, heard, self.now);
                if heard < self.controller.version {
                    let image = self.controller.image();
                    self.send(CONTROLLER, from, &Payload::Image(image));
                }
            }
            Payload::Alter {
                boot,
                life,
                proposal,
            } => {
                let answer = self.controller.alter(from, life, &proposal);
                self.note(|| format!("controller: {proposal:?} of {from}: {answer:?}"));
                let id = proposal.id;
                self.send(CONTROLLER, from, &Payload::Altered { boot, id, answer });
            }
            _ => {}
        }
    }

    /// Tells everyone what the controller has changed.
    fn announce(&mut self) {
        if self.controller.version > self.announced {
            self.announced = self.controller.version;
            let image = self.controller.image();
            self.note(|| format!("controller: {:?}", image.assignment));
            for id in 0..self.brokers() {
                self.send(CONTROLLER, id, &Payload::Image(image.clone()));
            }
        }
    }

    // Clients.

    /// One of the brokers that believe to lead.
    fn a_leader(&mut self) -> Option<u32> {
        let now = self.now;
        let leads = |node: &&Node| {
            let replica = node.replica.as_ref();
            node.paused_until <= now && replica.is_some_and(|replica| replica.as_leader().is_some())
        };
        let leaders: Vec<u32> = self
            .nodes
            .iter()
            .filter(leads)
            .map(|node| node.id)
            .collect();
        (!leaders.is_empty()).then(|| leaders[self.random.usize(0..leaders.len())])
    }

    fn produce(&mut self) -> Checked {
        if self.now > CHAOS_MS + HEAL_MS - QUIET_MS {
            return Ok(());
        }
        let wait = self.random.i64(2..=16);
        self.after(wait, Event::Produce);
        let Some(id) = self.a_leader() else {
            return Ok(());
        };
        let acks = match self.random.u32(0..10) {
            0..2 => Acks::Leader,
            _ => Acks::All,
        };
        let count = self.random.u64(1..=3);
        let first = self.next_value;
        let node = &mut self.nodes[id as usize];
        let replica = node.replica.as_ref();
        let leader = replica
            .and_then(|replica| replica.as_leader())
            .expect("it was chosen");
        if leader.admit(acks) != Admission::Accept {
            return Ok(());
        }
        self.next_value += count;
        let base = node.log.end();
        let record = |value| Record {
            epoch: leader.epoch().0,
            value,
            batch: base,
        };
        let records: Vec<Record> = (first..first + count).map(record).collect();
        node.log.append(&records);
        node.waiting.push(Waiting {
            base,
            records,
            acks,
        });
        self.note(|| format!("broker {id}: {count} records appended at {base}, {acks:?}"));
        self.write(id);
        Ok(())
    }

    fn consume(&mut self) -> Checked {
        self.after(12, Event::Consume);
        let Some(id) = self.a_leader() else {
            return Ok(());
        };
        let node = &self.nodes[id as usize];
        let replica = node.replica.as_ref();
        let leader = replica
            .and_then(|replica| replica.as_leader())
            .expect("it was chosen");
        if let Some(Offset(end)) = leader.visible_end() {
            self.checker.told_end(leader.epoch().0, end)?;
        }
        let end = leader.high_watermark().0;
        let from = self.position.max(node.log.start());
        if from < end {
            let records = node.log.read(from, 20, end);
            self.checker.consumed(id, from, &records)?;
            self.position = from + records.len() as u64;
        }
        Ok(())
    }

    // Faults.

    fn fault(&mut self) -> Checked {
        if self.now >= CHAOS_MS - 200 {
            return Ok(());
        }
        let wait = self.random.i64(20..350);
        self.after(wait, Event::Fault);
        let fault = CHOICES[self.random.usize(0..CHOICES.len())];
        let id = self.random.u32(0..self.brokers());
        let until = self.now + self.random.i64(50..900);
        self.note(|| format!("fault: {fault:?}, broker {id}, until {until}"));
        self.faults.add(fault, 1);
        match fault {
            Fault::Crash => self.stop(id, false, 0, until),
            Fault::TornCrash => {
                let survives = self.random.usize(1..4);
                self.stop(id, false, survives, until);
            }
            Fault::CleanRestart => self.stop(id, true, 0, until),
            Fault::Pause => self.node(id).paused_until = until,
            Fault::OneWayCut => self.cut_link(id, false, until),
            Fault::TwoWayCut => self.cut_link(id, true, until),
            Fault::CutFromController => {
                let both = self.random.bool();
                self.cut_pair((id, CONTROLLER), both, until);
            }
            Fault::SlowDisk => self.node(id).disk_ms = self.random_disk_ms(),
            Fault::FullDisk => self.node(id).disk_full_until = until,
            Fault::Storm => {
                self.network.weather = Weather {
                    max_delay_ms: self.random.i64(5..120),
                    loss: self.random.u32(0..60),
                    double: self.random.u32(0..200),
                    reorder: self.random.u32(0..100),
                };
                self.schedule(until, Event::Calm);
            }
            Fault::MovedLeader => {
                self.controller.move_leader();
            }
            Fault::Deletion => return self.delete_records(),
            Fault::LostMessage
            | Fault::DoubledMessage
            | Fault::ReorderedMessage
            | Fault::LostStream => {}
        }
        Ok(())
    }

    fn random_disk_ms(&mut self) -> i64 {
        match self.random.bool() {
            true => 2,
            false => self.random.i64(10..150),
        }
    }

    fn stop(&mut self, id: u32, clean: bool, torn: usize, until: i64) {
        if !self.node(id).up {
            return;
        }
        self.checker.cut(id, 0);
        self.node(id).stop(clean, torn);
        for other in 0..self.brokers() {
            if other != id {
                self.lose_stream(id, other);
            }
        }
        self.schedule(until, Event::Restart(id));
    }

    fn cut_link(&mut self, id: u32, both: bool, until: i64) {
        let other = (id + self.random.u32(1..self.brokers())) % self.brokers();
        self.cut_pair((id, other), both, until);
    }

    fn cut_pair(&mut self, (one, other): (Address, Address), both: bool, until: i64) {
        let back = both.then_some((other, one));
        let forth = match self.random.bool() {
            true => (one, other),
            false => (other, one),
        };
        for (from, to) in [Some(forth), back, both.then_some((one, other))]
            .into_iter()
            .flatten()
        {
            self.network.cut.insert((from, to));
            self.schedule(until, Event::Mend { from, to });
        }
    }

    fn delete_records(&mut self) -> Checked {
        let Some(id) = self.a_leader() else {
            return Ok(());
        };
        let node = &mut self.nodes[id as usize];
        let replica = node.replica.as_ref().expect("it leads");
        let (start, end) = (node.log.start(), replica.high_watermark().0);
        if end <= start {
            return Ok(());
        }
        let to = self.random.u64(start..=end);
        node.log.set_start(to);
        let ends = node.log.ends();
        self.input(id, Input::Log(ends))
    }

    fn heal(&mut self) {
        self.note(|| "all faults end".to_owned());
        self.network.weather = CALM;
        self.network.cut.clear();
        for node in &mut self.nodes {
            node.up = true;
            node.paused_until = self.now;
            node.disk_ms = 2;
            node.disk_full_until = 0;
        }
        self.healed = Some((self.now, self.checker.acknowledged));
    }

    // Checks of the whole.

    fn check_candidates(&mut self) -> Checked {
        self.steps += 1;
        let in_full = self.steps.is_multiple_of(256);
        let candidates = self.controller.in_sync.union(&self.controller.eligible);
        for id in candidates {
            let log = &self.nodes[*id as usize].log;
            match in_full {
                true => self.checker.candidate_in_full(*id, log)?,
                false => self.checker.candidate(*id, log)?,
            }
        }
        Ok(())
    }

    fn check_healed(&mut self) -> Checked {
        let (_, before) = self.healed.expect("faults have ended");
        ensure!(
            self.checker.acknowledged > before,
            "nothing was acknowledged since faults ended"
        );
        let everyone: BTreeSet<u32> = (0..self.brokers()).collect();
        ensure!(
            self.controller.in_sync == everyone,
            "only {:?} are in sync after faults ended",
            self.controller.in_sync
        );
        let leader = self.controller.leader.expect("all are in sync");
        let end = self.nodes[leader as usize].log.end();
        for node in &self.nodes {
            let replica = node.replica.as_ref().expect("it is up");
            ensure!(
                node.log.durable() == end && replica.high_watermark() == Offset(end),
                "broker {} has {:?} and a high watermark of {}, the leader ends at {end}",
                node.id,
                node.log.ends(),
                replica.high_watermark()
            );
            self.checker.candidate_in_full(node.id, &node.log)?;
        }
        ensure!(
            self.position == end,
            "the consumer is at {} of {end}",
            self.position
        );
        Ok(())
    }

    // Time.

    fn after(&mut self, wait: i64, event: Event) {
        self.schedule(self.now + wait, event);
    }

    fn schedule(&mut self, at: i64, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.now), self.sequence), event);
    }

    /// Until when the broker that an event concerns is stopped.
    fn pause_of(&self, event: &Event) -> Option<i64> {
        let paused = |id: u32| {
            let until = self.nodes.get(id as usize)?.paused_until;
            (until > self.now).then_some(until)
        };
        match event {
            Event::Deliver { to, .. } => paused(*to),
            Event::Written { node, .. }
            | Event::Cut { node, .. }
            | Event::Read { node, .. }
            | Event::Tick { node, .. }
            | Event::AlterTimeout { node, .. }
            | Event::Beat(node) => paused(*node),
            Event::StreamLost { one, other } => paused(*one).max(paused(*other)),
            _ => None,
        }
    }

    fn is_boot(&self, id: u32, boot: u64) -> bool {
        let node = &self.nodes[id as usize];
        node.up && node.boot == boot
    }

    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    fn brokers(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6}  {}", self.now, line()));
        }
    }
}
