//! A shell without disks: time, the log, writes in flight, tickets; and what must always hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millrace_groups::{
    Coordinator, Effect, FetchOffsets, GroupSettings, Input, Record, Request, Response, Ticket,
    TopicImage, TopicsImage, WriteId,
};
use millrace_model::{ErrorCode, Timestamp, TopicId};

use super::blobs::Partition;
use super::client::{Client, Kind, Outgoing, REBALANCE_MS, SESSION_MS};
use super::ledger::Ledger;

/// With their classic protocol, if they have one, and whether members of the broker-driven one come too.
const GROUPS: [(&str, &[Kind]); 5] = [
    ("eager", &[Kind::Eager]),
    ("cooperative", &[Kind::Cooperative]),
    ("consumer", &[Kind::Consumer]),
    ("mixed", &[Kind::Cooperative, Kind::Consumer]),
    ("mixed-eager", &[Kind::Eager, Kind::Consumer]),
];
const MAX_CLIENTS: usize = 16;
/// After the last change all is as it should be within this: sessions end, rebalances time out, those who
/// were dropped come again.
const CALM_MS: i64 = 90_000;
/// Nobody waits longer for an answer: a rebalance, and as long for syncs.
const MAX_WAIT_MS: i64 = 2 * REBALANCE_MS as i64 + SESSION_MS as i64;

pub(crate) struct World {
    random: fastrand::Rng,
    now: i64,
    settings: GroupSettings,
    coordinator: Coordinator,
    topics: Arc<TopicsImage>,
    log: Vec<Record>,
    in_flight: VecDeque<(WriteId, i64, Vec<Record>)>,
    wake_at: Option<i64>,
    next_ticket: u64,
    /// Who waits for an answer since when: a client by name, or nobody any more.
    open: BTreeMap<Ticket, (Option<String>, i64)>,
    clients: Vec<Client>,
    clients_made: usize,
    ledger: Ledger,
    pub(crate) trace: Vec<String>,
    pub(crate) seen: Seen,
}

/// What happened, so that a test can tell whether it tried anything.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) restarts: usize,
    pub(crate) calms: usize,
    pub(crate) upgrades: usize,
    pub(crate) downgrades: usize,
    pub(crate) acknowledged: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay_ms: 500,
            consumer_session_timeout_ms: u32::try_from(SESSION_MS).unwrap(),
            ..GroupSettings::default()
        };
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            now: 1_000_000,
            coordinator: Coordinator::new(settings.clone(), seed),
            settings,
            topics: Arc::new(topics(5, 3)),
            log: Vec::new(),
            in_flight: VecDeque::new(),
            wake_at: None,
            next_ticket: 0,
            open: BTreeMap::new(),
            clients: Vec::new(),
            clients_made: 0,
            ledger: Ledger::default(),
            trace: Vec::new(),
            seen: Seen::default(),
        };
        world.load();
        world
    }

    /// Something happens, then time passes.
    pub(crate) fn step(&mut self) {
        match self.random.u32(..1_000) {
            0..40 => self.start_client(),
            40..55 => self.crash_client(),
            55..75 => self.stop_client(),
            75..95 => self.pause_client(),
            95..100 => self.grow_topic(),
            100..103 => self.jump(),
            103..108 => self.crash(),
            108..111 => self.fail_write(),
            111..115 => self.restart_from_snapshot(),
            _ => {}
        }
        self.pass(20..400);
    }

    /// Nothing changes any more, for long enough; then everything must be read, and be committed.
    pub(crate) fn calm(&mut self) {
        self.clients
            .iter_mut()
            .for_each(|client| client.next_at = self.now);
        self.clients.retain(|client| !client.is_over());
        let end = self.now + CALM_MS;
        while self.now < end {
            self.pass(20..400);
        }
        let late = |(_, since): &(Option<String>, i64)| self.now - since > MAX_WAIT_MS;
        assert!(!self.open.values().any(late), "{:?}", self.open);
        for (group, _) in GROUPS {
            self.check_all_is_read(group);
        }
        self.crash();
        self.check_commits();
        self.seen.calms += 1;
        self.seen.acknowledged = self.ledger.acknowledged;
    }

    fn pass(&mut self, millis: std::ops::Range<i64>) {
        self.now += self.random.i64(millis);
        while self
            .in_flight
            .front()
            .is_some_and(|(_, due, _)| *due <= self.now)
        {
            self.complete_write();
        }
        if self.wake_at.is_some_and(|at| at <= self.now) {
            self.wake_at = None;
            self.give(Input::Tick);
        }
        let mut order: Vec<usize> = (0..self.clients.len()).collect();
        self.random.shuffle(&mut order);
        for at in order {
            self.let_act(at);
        }
        self.check_claims();
        if self.random.u8(..32) == 0 {
            self.check_replay();
        }
    }

    fn let_act(&mut self, at: usize) {
        let now = self.now;
        let client = &mut self.clients[at];
        if client.next_at > now {
            return;
        }
        client.settle(now);
        if let Some((ticket, since)) = client.pending {
            // Its request timed out, or its connection broke.
            if now - since > MAX_WAIT_MS || self.random.u32(..2_000) == 0 {
                client.unanswered();
                self.withdraw(ticket);
            } else if self.random.u8(..8) == 0 {
                // It wants something else of its connection.
                self.give(Input::Hurry(ticket));
            }
            return;
        }
        client.next_at = now + self.random.i64(100..1_500);
        let topics = Arc::clone(&self.topics);
        let ledger = &mut self.ledger;
        let outgoing = client.act(now, &mut self.random, &topics, || ledger.next_offset());
        if let Some(outgoing) = outgoing {
            self.send(at, outgoing);
        }
    }

    fn send(&mut self, at: usize, outgoing: Outgoing) {
        let client = &mut self.clients[at];
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        client.pending = Some((ticket, self.now));
        if let Some((partition, offset)) = &outgoing.commits {
            self.ledger.sent(&client.group, partition, ticket, *offset);
        }
        self.open
            .insert(ticket, (Some(client.name.clone()), self.now));
        let identity = client.identity();
        self.trace.push(format!(
            "{} {} {:?}",
            self.now, client.name, outgoing.request
        ));
        self.give(Input::Request {
            ticket,
            client: identity,
            request: outgoing.request,
        });
    }

    /// The client does not listen any more.
    fn withdraw(&mut self, ticket: Ticket) {
        if self.open.remove(&ticket).is_some() {
            self.give(Input::Withdrawn(ticket));
        }
    }

    fn give(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.coordinator
            .handle(Timestamp(self.now), input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.trace.push(format!("{} {effect:?}", self.now));
            match effect {
                Effect::Append { write, records } => {
                    assert!(!records.is_empty());
                    self.note_migration(&records);
                    let soonest = self.in_flight.back().map_or(self.now, |(_, due, _)| *due);
                    let due = soonest.max(self.now + self.random.i64(..150));
                    self.in_flight.push_back((write, due, records));
                }
                Effect::Respond { ticket, response } => self.respond(ticket, response),
                Effect::WakeAt(at) => self.wake_at = Some(at.0),
            }
        }
    }

    fn respond(&mut self, ticket: Ticket, response: Response) {
        let waiting = self.open.remove(&ticket);
        let (name, _) = waiting.expect("each ticket is answered once");
        self.ledger.answered(ticket, &response);
        let client = self
            .clients
            .iter_mut()
            .find(|client| Some(&client.name) == name.as_ref());
        if let Some(client) = client
            && let Some((_, sent)) = client.pending.take_if(|(waits, _)| *waits == ticket)
        {
            if self.random.u32(..200) == 0 {
                client.unanswered();
                return;
            }
            let topics = Arc::clone(&self.topics);
            client.hear(self.now, sent, response, &mut self.random, &topics);
        }
    }

    fn complete_write(&mut self) {
        let (write, _, records) = self.in_flight.pop_front().unwrap();
        self.log.extend(records);
        self.give(Input::Written(write));
    }

    fn start_client(&mut self) {
        if self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let (group, kinds) = GROUPS[self.random.usize(..GROUPS.len())];
        let kind = kinds[self.random.usize(..kinds.len())];
        self.clients_made += 1;
        // Two that run with one name at the same time steal it from each other.
        let instance = (self.random.u8(..3) == 0).then(|| format!("static{}", self.random.u8(..3)));
        let name = format!("c{}", self.clients_made);
        self.clients.push(Client::new(name, group, kind, instance));
    }

    fn crash_client(&mut self) {
        if let Some(at) = self.any_client() {
            let client = self.clients.swap_remove(at);
            if let Some((ticket, _)) = client.pending {
                self.withdraw(ticket);
            }
        }
    }

    fn stop_client(&mut self) {
        let Some(at) = self.any_client() else {
            return;
        };
        if self.clients[at].pending.is_some() {
            return;
        }
        if let Some(request) = self.clients[at].leave() {
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            let identity = self.clients[at].identity();
            self.open.insert(ticket, (None, self.now));
            self.trace.push(format!("{} {request:?}", self.now));
            self.give(Input::Request {
                ticket,
                client: identity,
                request,
            });
        }
        self.clients.swap_remove(at);
    }

    fn pause_client(&mut self) {
        if let Some(at) = self.any_client() {
            self.clients[at].next_at = self.now + self.random.i64(1_000..40_000);
        }
    }

    fn any_client(&mut self) -> Option<usize> {
        let count = self.clients.len();
        (count > 0).then(|| self.random.usize(..count))
    }

    fn grow_topic(&mut self) {
        let partitions = |name: &str| self.topics.by_name[name].partitions;
        let (a, b) = (partitions("a"), partitions("b"));
        if a + b < 20 {
            self.topics = Arc::new(topics(a + self.random.u32(..2), b + self.random.u32(..2)));
            self.give(Input::Topics(Arc::clone(&self.topics)));
        }
    }

    /// The machine slept: nobody did anything, and all of it was too long ago.
    fn jump(&mut self) {
        self.now += self.random.i64(5_000..60_000);
    }

    /// The coordinator is killed. What was in flight may be in the log or not.
    fn crash(&mut self) {
        let survive = self.random.usize(..=self.in_flight.len());
        for (_, _, records) in self.in_flight.drain(..).take(survive) {
            self.log.extend(records);
        }
        for (ticket, (name, _)) in std::mem::take(&mut self.open) {
            let client = self
                .clients
                .iter_mut()
                .find(|client| Some(&client.name) == name.as_ref());
            if let Some(client) =
                client.filter(|client| client.pending.is_some_and(|(waits, _)| waits == ticket))
            {
                client.unanswered();
            }
        }
        self.restart();
    }

    /// A write fails, and all that come after it.
    fn fail_write(&mut self) {
        if let Some((write, _, _)) = self.in_flight.front() {
            let failed = Input::WriteFailed(*write, ErrorCode::KafkaStorageError);
            self.in_flight.clear();
            self.give(failed);
            assert!(self.open.is_empty(), "everybody who waited was told");
            self.restart();
        }
    }

    fn restart_from_snapshot(&mut self) {
        while !self.in_flight.is_empty() {
            self.complete_write();
        }
        self.log = self.coordinator.snapshot();
        self.crash();
    }

    fn restart(&mut self) {
        self.seen.restarts += 1;
        self.wake_at = None;
        let seed = self.random.u64(..);
        self.coordinator = replayed(&self.settings, seed, &self.log);
        self.load();
    }

    fn load(&mut self) {
        let mut effects = Vec::new();
        let topics = Arc::clone(&self.topics);
        self.coordinator
            .loaded(Timestamp(self.now), topics, &mut effects);
        self.carry_out(effects);
    }

    /// No two read the same.
    fn check_claims(&self) {
        let mut readers: BTreeMap<(&str, &Partition), &Client> = BTreeMap::new();
        for client in self.clients.iter().filter(|client| self.is_itself(client)) {
            for partition in client.claims(self.now) {
                if let Some(before) = readers.insert((&client.group, partition), client) {
                    panic!(
                        "{} and {} of {} both read {partition:?} at {}, in {} and {}",
                        before.name,
                        client.name,
                        client.group,
                        self.now,
                        before.generation(),
                        client.generation()
                    );
                }
            }
        }
    }

    /// Of two processes with one static name each may have been replaced by the other, and go on until it
    /// hears that: nothing can be said of what they read.
    fn is_itself(&self, client: &Client) -> bool {
        let is_double =
            |other: &&Client| other.group == client.group && other.instance == client.instance;
        client.instance.is_none() || self.clients.iter().filter(is_double).count() == 1
    }

    fn check_all_is_read(&mut self, group: &str) {
        let described = self.describe(group);
        let of_group = || self.clients.iter().filter(|client| client.group == group);
        if of_group().next().is_none() {
            return;
        }
        let read: BTreeSet<&Partition> = of_group().flat_map(|c| c.claims(self.now)).collect();
        let by_name = self.topics.by_name.iter();
        let all: usize = by_name.map(|(_, topic)| topic.partitions as usize).sum();
        let who: Vec<_> = of_group()
            .map(|client| (&client.name, client.kind, client.claims(self.now).count()))
            .collect();
        assert_eq!(
            read.len(),
            all,
            "{group} at {}: {who:?}, {described:?}",
            self.now
        );
    }

    /// For whoever has to find out why.
    fn describe(&mut self, group: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let request = Request::Describe {
            group: group.to_owned(),
            only: None,
        };
        let client = millrace_groups::Client::default();
        self.coordinator.handle(
            Timestamp(self.now),
            Input::Request {
                ticket,
                client,
                request,
            },
            &mut effects,
        );
        if effects.is_empty() {
            self.open.insert(ticket, (None, self.now));
        }
        effects
    }

    fn check_commits(&mut self) {
        for (group, _) in GROUPS {
            let ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            let request = Request::FetchOffsets(FetchOffsets {
                group: group.to_owned(),
                member: None,
                member_epoch: -1,
                partitions: None,
                require_stable: false,
            });
            let mut effects = Vec::new();
            self.coordinator.handle(
                Timestamp(self.now),
                Input::Request {
                    ticket,
                    client: millrace_groups::Client::default(),
                    request,
                },
                &mut effects,
            );
            let found = effects.iter().find_map(|effect| match effect {
                Effect::Respond {
                    ticket: answered,
                    response: Response::Offsets(offsets),
                } if *answered == ticket => Some(offsets.clone()),
                _ => None,
            });
            match found {
                Some(found) => self.ledger.check(group, &found),
                // Something that the start itself wrote is in flight.
                None => {
                    self.open.insert(ticket, (None, self.now));
                }
            }
            effects.retain(|effect| {
                !matches!(effect, Effect::Respond { ticket: answered, .. } if *answered == ticket)
            });
            self.carry_out(effects);
        }
    }

    fn check_replay(&self) {
        let in_flight = self.in_flight.iter().flat_map(|(_, _, records)| records);
        let all: Vec<Record> = self.log.iter().chain(in_flight).cloned().collect();
        let again = replayed(&self.settings, 0, &all);
        assert!(
            again.snapshot() == self.coordinator.snapshot(),
            "a replay differs"
        );
    }

    fn note_migration(&mut self, records: &[Record]) {
        let kind = |record: &Record| (record.key[1], record.value.is_some());
        let has = |wanted| records.iter().any(|record| kind(record) == wanted);
        self.seen.upgrades += usize::from(has((2, false)) && has((5, true)));
        self.seen.downgrades += usize::from(has((2, true)) && has((5, false)));
    }
}

fn replayed(settings: &GroupSettings, seed: u64, log: &[Record]) -> Coordinator {
    let mut coordinator = Coordinator::new(settings.clone(), seed);
    for record in log {
        coordinator
            .replay(&record.key, record.value.as_deref(), Timestamp(0))
            .unwrap();
    }
    coordinator
}

fn topics(a: u32, b: u32) -> TopicsImage {
    let mut image = TopicsImage::default();
    for (name, id, partitions) in [("a", 1, a), ("b", 2, b)] {
        let id = TopicId([id; 16]);
        image
            .by_name
            .insert(name.to_owned(), TopicImage { id, partitions });
        image.by_id.insert(id, name.to_owned());
    }
    image
}
