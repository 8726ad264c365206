//! Seeded histories of a group: members of both protocols join, beat, dawdle, lose answers, leave and die,
//! topics grow and go, the coordinator restarts from its log.
//!
//! Safety, after every step: no partition is read by two clients at a time. A client reads what it was given until it
//! has revoked it itself, or until the group has removed it. Liveness: once nothing changes any more, every partition is
//! read by exactly one client within a bounded number of rounds.
//!
//! The clients here know nothing of the group but its answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use millrace_groups::consumer::{
    ConsumerGroup, ConsumerProtocolAssignment, ConsumerProtocolSubscription, Moment, Outcome,
    Partitions,
};
use millrace_groups::{
    Client, ConsumerHeartbeat, Failure, GroupRecord, GroupSettings, GroupState, Heartbeat,
    JoinGroup, Record, Response, SyncGroup, TopicImage, TopicsImage,
};
use millrace_model::{ErrorCode, Timestamp, TopicId};

/// `MODEL_SEEDS` runs more.
const SEEDS: u64 = 150;
const STEPS: usize = 250;
const CLIENTS: usize = 6;
const NAMES: [&str; 3] = ["orders", "orders-eu", "users"];
const SESSION_MS: i64 = 500;
const REBALANCE_MS: i32 = 800;
const ROUND_MS: i64 = 100;
/// The dead are noticed after a session. A slow member holds a change back for a rebalance timeout, 8 rounds; it is
/// fenced then, which is a change, and so is its return. So each of the clients can cause two changes after the
/// last one of the history, of at most 9 rounds each.
const ROUNDS: usize = 120;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Consumer,
    Classic,
}

/// A client, from its own point of view.
struct Reader {
    id: String,
    speaks: Speaks,
    instance: Option<String>,
    topics: Vec<String>,
    regex: Option<String>,
    /// `None`: not in the group.
    epoch: Option<i32>,
    reads: Partitions,
    /// What it was told to read last.
    assigned: Partitions,
    /// Whether it takes its time to revoke.
    is_slow: bool,
    /// Whether it must say all, for it may have missed an answer.
    must_say_all: bool,
    /// Classic: the next step of a rebalance.
    must_join: bool,
}

struct World {
    rng: Rng,
    group: ConsumerGroup,
    log: Vec<Record>,
    topics: TopicsImage,
    settings: GroupSettings,
    now: Timestamp,
    drawn: u8,
    clients: BTreeMap<usize, Reader>,
    born: usize,
    /// The history is over: who is slow now never revokes, until it is fenced.
    is_over: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::with_seed(seed),
            group: ConsumerGroup::new("g"),
            log: Vec::new(),
            topics: TopicsImage::default(),
            settings: GroupSettings {
                consumer_session_timeout_ms: u32::try_from(SESSION_MS).unwrap(),
                ..GroupSettings::default()
            },
            now: Timestamp(0),
            drawn: 0,
            clients: BTreeMap::new(),
            born: 0,
            is_over: false,
        };
        world.set_topic("orders", 5);
        world
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..8 if self.clients.len() < CLIENTS => self.birth(),
            0..60 => self.any(|world, at| world.beat(at, true)),
            60..68 => self.any(|world, at| world.beat(at, false)),
            68..74 => self.any(|world, at| {
                let slow = world.rng.bool();
                world.clients.get_mut(&at).unwrap().is_slow = slow;
            }),
            74..77 => self.any(Self::leave),
            77..79 => self.any(|world, at| {
                world.clients.remove(&at);
            }),
            79..83 => {
                let name = NAMES[self.rng.usize(0..NAMES.len())];
                let partitions = match self.rng.u8(0..4) {
                    0 => 0,
                    _ => {
                        self.topics.by_name.get(name).map_or(0, |t| t.partitions)
                            + self.rng.u32(0..3)
                    }
                };
                self.set_topic(name, partitions);
            }
            83..88 => self.any(|world, at| {
                let (topics, regex) = world.subscription();
                let client = world.clients.get_mut(&at).unwrap();
                client.must_say_all = true;
                client.must_join = true;
                client.regex = regex.filter(|_| client.speaks == Speaks::Consumer);
                client.topics = topics;
            }),
            88..90 => self.restart(),
            _ => {
                let ms = self.rng.i64(0..200);
                self.pass(ms);
            }
        }
        self.check_safety();
    }

    /// Nothing changes any more, but everybody beats.
    fn settle(&mut self) {
        self.is_over = true;
        for round in 0.. {
            let clients: Vec<usize> = self.clients.keys().copied().collect();
            for at in clients {
                self.beat(at, true);
                self.check_safety();
            }
            if self.is_settled() {
                break;
            }
            assert!(round < ROUNDS, "not settled: {:?}", self.group);
            self.pass(ROUND_MS);
            self.check_safety();
        }
    }

    fn is_settled(&self) -> bool {
        let alone = self.group.members().len() == self.clients.len();
        if self.clients.is_empty() {
            return alone;
        }
        let read: usize = self.clients.values().map(|client| client.reads.len()).sum();
        let epoch = Some(self.group.epoch());
        let current = self.clients.values().all(|client| client.epoch == epoch);
        let stable = self.group.state() == GroupState::Stable;
        alone && current && stable && read == self.wanted()
    }

    /// How many partitions are subscribed to.
    fn wanted(&self) -> usize {
        let wants = |name: &String| {
            self.clients.values().any(|client| {
                client.topics.contains(name) || client.regex.is_some() && name.starts_with("orders")
            })
        };
        let wanted = self.topics.by_name.iter().filter(|(name, _)| wants(name));
        wanted.map(|(_, topic)| topic.partitions as usize).sum()
    }

    fn check_safety(&self) {
        let mut read = BTreeMap::new();
        for client in self.clients.values() {
            if !self.group.members().contains_key(&client.id) {
                continue;
            }
            for partition in client.reads.iter() {
                let other = read.insert(partition, &client.id);
                assert_eq!(other, None, "{partition:?} is read by {} too", client.id);
            }
        }
        let mut held = BTreeSet::new();
        for (id, member) in self.group.members() {
            let current = &member.current;
            for partition in current
                .assigned
                .iter()
                .chain(current.pending_revocation.iter())
            {
                assert!(held.insert(partition), "{id} holds what another holds");
            }
        }
    }

    fn birth(&mut self) {
        self.born += 1;
        let (topics, regex) = self.subscription();
        let speaks = match self.rng.u8(0..3) {
            0 => Speaks::Classic,
            _ => Speaks::Consumer,
        };
        let instance = format!("i{}", self.rng.u8(0..4));
        let taken = self
            .clients
            .values()
            .any(|client| client.instance.as_ref() == Some(&instance));
        let client = Reader {
            id: match speaks {
                Speaks::Classic => String::new(),
                Speaks::Consumer => format!("m{}", self.born),
            },
            speaks,
            instance: Some(instance).filter(|_| !taken && self.rng.bool()),
            topics,
            regex: regex.filter(|_| speaks == Speaks::Consumer),
            epoch: None,
            reads: Partitions::new(),
            assigned: Partitions::new(),
            is_slow: self.rng.u8(0..5) == 0,
            must_say_all: false,
            must_join: true,
        };
        self.clients.insert(self.born, client);
    }

    fn subscription(&mut self) -> (Vec<String>, Option<String>) {
        let rng = &mut self.rng;
        let names = NAMES
            .iter()
            .filter(|_| rng.u8(0..3) > 0)
            .map(|name| (*name).to_owned());
        (
            names.collect(),
            (self.rng.u8(0..4) == 0).then(|| "orders.*".to_owned()),
        )
    }

    fn any(&mut self, act: impl FnOnce(&mut Self, usize)) {
        let clients: Vec<usize> = self.clients.keys().copied().collect();
        if let Some(at) = self.rng.choice(clients) {
            act(self, at);
        }
    }

    /// One request of a client; its answer may be lost.
    fn beat(&mut self, at: usize, heard: bool) {
        let client = self.clients.get_mut(&at).unwrap();
        if !client.is_slow || (!self.is_over && self.rng.u8(0..20) == 0) {
            client.reads = client.reads.intersection(&client.assigned);
        }
        match client.speaks {
            Speaks::Consumer => self.beat_consumer(at, heard),
            Speaks::Classic => self.beat_classic(at, heard),
        }
    }

    fn beat_consumer(&mut self, at: usize, heard: bool) {
        let client = &self.clients[&at];
        let all = client.epoch.is_none() || client.must_say_all;
        let owned = match client.epoch {
            None => Vec::new(),
            Some(_) => client.reads.to_list(),
        };
        let says_owned = all || self.rng.bool();
        let request = ConsumerHeartbeat {
            group: "g".to_owned(),
            member: client.id.clone(),
            member_epoch: client.epoch.unwrap_or(0),
            instance: client.instance.clone(),
            rack: None,
            rebalance_timeout_ms: if all { REBALANCE_MS } else { -1 },
            subscribed_topics: all.then(|| client.topics.clone()),
            subscribed_regex: all.then(|| client.regex.clone().unwrap_or_default()),
            assignor: None,
            owned: says_owned.then_some(owned),
        };
        let answer = self
            .ask(|group, moment| group.heartbeat(moment, &Client::default(), &request, "unused"));
        let client = self.clients.get_mut(&at).unwrap();
        if !heard {
            client.must_say_all = true;
            return;
        }
        match answer {
            Ok(Response::ConsumerHeartbeat {
                member_epoch,
                assignment,
                ..
            }) => {
                client.must_say_all = false;
                client.epoch = Some(member_epoch);
                if let Some(assignment) = assignment {
                    client.assigned = Partitions::from_list(&assignment);
                    client.take();
                }
                if client.reads.is_subset(&client.assigned) {
                    client.reads = client.assigned.clone();
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => client.lose(&failure, at),
        }
    }

    fn beat_classic(&mut self, at: usize, heard: bool) {
        let client = &self.clients[&at];
        if client.must_join || client.epoch.is_none() {
            self.join_classic(at, heard);
            return;
        }
        let request = Heartbeat {
            group: "g".to_owned(),
            generation: client.epoch.unwrap(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            can_wait: true,
        };
        let answer =
            self.ask(|group, moment| unrecorded(group.heartbeat_classic(moment, &request)));
        let client = self.clients.get_mut(&at).unwrap();
        match answer {
            Err(failure) if heard => client.lose(&failure, at),
            _ => {}
        }
    }

    /// Joins, and syncs at once.
    fn join_classic(&mut self, at: usize, heard: bool) {
        let client = &self.clients[&at];
        let named = client.reads.by_topic().filter_map(|(topic, partitions)| {
            Some((
                self.topics.by_id.get(&topic)?.clone(),
                partitions.iter().copied().collect(),
            ))
        });
        let subscription = ConsumerProtocolSubscription {
            version: 3,
            topics: client.topics.clone(),
            owned: named.collect(),
            rack: None,
        };
        let join = JoinGroup {
            group: "g".to_owned(),
            member: client.id.clone(),
            instance: client.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![("cooperative-sticky".to_owned(), subscription.encode())],
            session_timeout_ms: i32::try_from(SESSION_MS).unwrap(),
            rebalance_timeout_ms: REBALANCE_MS,
            needs_member_id: false,
            can_skip_assignment: true,
            reason: None,
        };
        self.born += 1;
        let fresh = format!("c{}", self.born);
        let answer =
            self.ask(|group, moment| group.join_classic(moment, &Client::default(), &join, &fresh));
        let client = self.clients.get_mut(&at).unwrap();
        if !heard {
            return;
        }
        let joined = match answer {
            Ok(Response::Joined(joined)) => joined,
            Ok(other) => panic!("{other:?}"),
            Err(failure) => return client.lose(&failure, at),
        };
        client.id.clone_from(&joined.member);
        client.epoch = Some(joined.generation);
        client.must_join = false;
        let sync = SyncGroup {
            group: "g".to_owned(),
            generation: joined.generation,
            member: joined.member,
            instance: client.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: joined.protocol_name,
            assignments: Vec::new(),
        };
        let answer = self.ask(|group, moment| unrecorded(group.sync_classic(moment, &sync)));
        let assignment = answer.map(|response| match response {
            Response::Synced { assignment, .. } => self.parse(&assignment),
            other => panic!("{other:?}"),
        });
        let client = self.clients.get_mut(&at).unwrap();
        match assignment {
            Ok(assignment) => {
                client.assigned = assignment;
                client.take();
                // A cooperative consumer joins again once it has revoked something; this one revokes
                // with its next beat.
                if client.reads.is_subset(&client.assigned) {
                    client.reads = client.assigned.clone();
                } else {
                    client.must_join = true;
                }
            }
            Err(failure) => client.lose(&failure, at),
        }
    }

    fn parse(&self, assignment: &Bytes) -> Partitions {
        let assignment = ConsumerProtocolAssignment::decode(assignment).unwrap();
        let named = assignment.partitions.iter();
        let each = named.flat_map(|(name, partitions)| {
            let id = self.topics.by_name[name].id;
            partitions.iter().map(move |partition| (id, *partition))
        });
        each.collect()
    }

    fn leave(&mut self, at: usize) {
        let client = self.clients.remove(&at).unwrap();
        if client.epoch.is_none() || client.speaks == Speaks::Classic {
            return;
        }
        let away = client.instance.is_some() && self.rng.bool();
        let request = ConsumerHeartbeat {
            group: "g".to_owned(),
            member: client.id,
            member_epoch: if away { -2 } else { -1 },
            instance: client.instance,
            rack: None,
            rebalance_timeout_ms: -1,
            subscribed_topics: None,
            subscribed_regex: None,
            assignor: None,
            owned: None,
        };
        let _ = self
            .ask(|group, moment| group.heartbeat(moment, &Client::default(), &request, "unused"));
    }

    fn set_topic(&mut self, name: &str, partitions: u32) {
        let old = self.topics.by_name.remove(name);
        if let Some(old) = old {
            self.topics.by_id.remove(&old.id);
        }
        // Classic members know topics by name: what is deleted they cannot even name.
        let classic = self
            .clients
            .values_mut()
            .filter(|client| client.speaks == Speaks::Classic);
        for client in classic.filter(|_| partitions == 0) {
            let gone = |topic| old.is_some_and(|old| old.id == topic);
            client.reads = client
                .reads
                .iter()
                .filter(|(topic, _)| !gone(*topic))
                .collect();
        }
        if partitions > 0 {
            let id = old.map_or_else(
                || {
                    self.drawn += 1;
                    TopicId([self.drawn; 16])
                },
                |old| old.id,
            );
            self.topics
                .by_name
                .insert(name.to_owned(), TopicImage { id, partitions });
            self.topics.by_id.insert(id, name.to_owned());
        }
        self.change(ConsumerGroup::topics_changed);
    }

    fn pass(&mut self, ms: i64) {
        self.now.0 += ms;
        let due = self.group.next_deadline().is_some_and(|at| at <= self.now);
        let before = self.group.members().len();
        self.change(ConsumerGroup::expire);
        assert_eq!(
            due,
            self.group.members().len() < before,
            "a deadline is a deadline"
        );
    }

    /// A new machine, from the log, stands where the old one stood.
    fn restart(&mut self) {
        let mut group = ConsumerGroup::new("g");
        for record in &self.log {
            group.replay(&GroupRecord::decode(&record.key, record.value.as_deref()).unwrap());
        }
        assert_eq!(group.records(), self.group.records());
        self.group = group;
        self.change(|group, moment| {
            group.started(moment);
            group.topics_changed(moment)
        });
    }

    fn ask(
        &mut self,
        request: impl FnOnce(&mut ConsumerGroup, &Moment<'_>) -> Result<Outcome, Failure>,
    ) -> Result<Response, Failure> {
        let moment = Moment {
            now: self.now,
            topics: &self.topics,
            settings: &self.settings,
        };
        let outcome = request(&mut self.group, &moment)?;
        self.log
            .extend(outcome.records.iter().map(GroupRecord::encode));
        Ok(outcome.response)
    }

    fn change(&mut self, act: impl FnOnce(&mut ConsumerGroup, &Moment<'_>) -> Vec<GroupRecord>) {
        let moment = Moment {
            now: self.now,
            topics: &self.topics,
            settings: &self.settings,
        };
        let records = act(&mut self.group, &moment);
        self.log.extend(records.iter().map(GroupRecord::encode));
    }
}

impl Reader {
    /// Goes on to what it was given; what it was not, it reads until it has revoked it.
    fn take(&mut self) {
        if !self.is_slow {
            self.reads = self.reads.intersection(&self.assigned);
        }
    }

    /// Gives all up, and joins again.
    fn lose(&mut self, failure: &Failure, at: usize) {
        match failure.code {
            ErrorCode::RebalanceInProgress => self.must_join = true,
            ErrorCode::UnreleasedInstanceId => {}
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::FencedInstanceId => {
                self.epoch = None;
                self.reads = Partitions::new();
                self.assigned = Partitions::new();
                self.must_join = true;
                self.is_slow = false;
                if self.speaks == Speaks::Classic {
                    self.id = String::new();
                } else if failure.code == ErrorCode::FencedInstanceId {
                    self.id = format!("m{at}-{}", self.id.len());
                }
            }
            _ => panic!("{failure:?}"),
        }
    }
}

fn unrecorded(response: Result<Response, Failure>) -> Result<Outcome, Failure> {
    response.map(|response| Outcome {
        response,
        records: Vec::new(),
    })
}

fn run(seed: u64) -> Vec<Record> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.restart();
    world.log
}

#[test]
fn partitions_have_one_reader_each_and_soon_one_again() {
    let seeds = std::env::var("MODEL_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let failed = std::panic::catch_unwind(|| run(seed)).is_err();
        assert!(!failed, "seed {seed}");
    }
}

#[test]
fn the_same_seed_writes_the_same_log() {
    assert_eq!(run(7), run(7));
}
