//! Drives a coordinator. After each command the whole log is replayed into another, whose snapshot must be
//! that of the one at work.
//!
//! A command is a time, a verb and `name=value` words; see `command.rs` for requests. Besides:
//! `settings NAME=VALUE ...`, `load TOPICS`, `topics TOPICS`, `tick`, `withdraw TICKET`, `hurry TICKET`, `hold` (writes stay in
//! flight until `written N`), `fail N CODE`, `restart` (a new coordinator replays what was written), and
//! `snapshot` (a restart from a snapshot).
//!
//! Generated ids appear as `NAME-#N`, N counted from 1, in commands and in the trace.

use std::sync::Arc;

use millrace_groups::{
    Coordinator, Effect, GroupRecord, GroupSettings, Input, Record, Ticket, TopicsImage, WriteId,
};
use millrace_model::{ErrorCode, Timestamp};

use super::{Scripted, command, show};

pub(crate) struct Machine {
    settings: GroupSettings,
    coordinator: Coordinator,
    topics: Arc<TopicsImage>,
    seed: u64,
    /// What is durable.
    log: Vec<Record>,
    in_flight: Vec<(WriteId, Vec<Record>)>,
    is_holding: bool,
    is_dead: bool,
    names: show::Names,
}

impl Default for Machine {
    fn default() -> Self {
        let settings = GroupSettings {
            initial_rebalance_delay_ms: 3_000,
            ..GroupSettings::default()
        };
        Self {
            coordinator: Coordinator::new(settings.clone(), 1),
            settings,
            topics: Arc::default(),
            seed: 1,
            log: Vec::new(),
            in_flight: Vec::new(),
            is_holding: false,
            is_dead: false,
            names: show::Names::default(),
        }
    }
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        let line = self.names.resolve(&words.join(" "));
        let words: Vec<&str> = line.split_whitespace().collect();
        let (now, words) = words.split_first().unwrap();
        let now = Timestamp(now.parse().unwrap());
        let mut lines = Vec::new();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match words {
            ["settings", changes @ ..] => {
                changes
                    .iter()
                    .for_each(|change| command::set(&mut self.settings, change));
                self.coordinator = Coordinator::new(self.settings.clone(), self.seed);
            }
            ["load", topics @ ..] => {
                self.topics = Arc::new(command::topics(topics));
                self.load(now, &mut lines);
            }
            ["topics", topics @ ..] => {
                self.topics = Arc::new(command::topics(topics));
                self.give(now, Input::Topics(Arc::clone(&self.topics)), &mut lines);
            }
            ["tick"] => self.give(now, Input::Tick, &mut lines),
            ["withdraw", ticket] => {
                let withdrawn = Input::Withdrawn(Ticket(number(ticket)));
                self.give(now, withdrawn, &mut lines);
            }
            ["hurry", ticket] => {
                let hurry = Input::Hurry(Ticket(number(ticket)));
                self.give(now, hurry, &mut lines);
            }
            ["hold"] => self.is_holding = true,
            ["written", write] => {
                let write = WriteId(number(write));
                self.make_durable(write);
                self.give(now, Input::Written(write), &mut lines);
            }
            ["fail", write, code] => {
                let code = ErrorCode::from_i16(code.parse().unwrap());
                self.give(
                    now,
                    Input::WriteFailed(WriteId(number(write)), code),
                    &mut lines,
                );
                self.is_dead = true;
            }
            ["restart"] => {
                self.in_flight.clear();
                self.restart(now, &mut lines);
            }
            ["snapshot"] => {
                self.log = self.coordinator.snapshot();
                self.restart(now, &mut lines);
            }
            [verb, ticket, rest @ ..] => {
                let (client, request) = command::request(verb, rest, &self.topics);
                let input = Input::Request {
                    ticket: Ticket(number(ticket)),
                    client,
                    request,
                };
                self.give(now, input, &mut lines);
            }
            other => panic!("{other:?} is no command"),
        }
        if !self.is_dead {
            self.check_replay();
        }
        lines
    }
}

impl Machine {
    fn give(&mut self, now: Timestamp, input: Input, lines: &mut Vec<String>) {
        let mut effects = Vec::new();
        self.coordinator.handle(now, input, &mut effects);
        self.carry_out(now, effects, lines);
    }

    fn carry_out(&mut self, now: Timestamp, effects: Vec<Effect>, lines: &mut Vec<String>) {
        let mut last = None;
        for effect in effects {
            lines.extend(show::effect(&effect, &mut self.names, &self.topics));
            if let Effect::Append { write, records } = effect {
                self.in_flight.push((write, records));
                last = Some(write);
            }
        }
        if let Some(write) = last.filter(|_| !self.is_holding) {
            self.make_durable(write);
            self.give(now, Input::Written(write), lines);
        }
    }

    fn make_durable(&mut self, write: WriteId) {
        let in_flight = std::mem::take(&mut self.in_flight);
        for (at, records) in in_flight {
            match at <= write {
                true => self.log.extend(records),
                false => self.in_flight.push((at, records)),
            }
        }
    }

    fn restart(&mut self, now: Timestamp, lines: &mut Vec<String>) {
        self.seed += 1;
        self.coordinator = replayed(&self.settings, self.seed, &self.log);
        (self.is_holding, self.is_dead) = (false, false);
        self.load(now, lines);
    }

    fn load(&mut self, now: Timestamp, lines: &mut Vec<String>) {
        let mut effects = Vec::new();
        let topics = Arc::clone(&self.topics);
        self.coordinator.loaded(now, topics, &mut effects);
        self.carry_out(now, effects, lines);
    }

    fn check_replay(&self) {
        let in_flight = self.in_flight.iter().flat_map(|(_, records)| records);
        let log: Vec<Record> = self.log.iter().chain(in_flight).cloned().collect();
        let decoded = |records: &[Record]| -> Vec<GroupRecord> {
            let decode = |record: &Record| {
                let value = record.value.as_deref();
                GroupRecord::decode(&record.key, value).unwrap()
            };
            records.iter().map(decode).collect()
        };
        let snapshot = self.coordinator.snapshot();
        let from_log = replayed(&self.settings, 0, &log).snapshot();
        assert_eq!(decoded(&from_log), decoded(&snapshot), "from the log");
        let from_snapshot = replayed(&self.settings, 0, &snapshot).snapshot();
        assert_eq!(decoded(&from_snapshot), decoded(&snapshot), "from itself");
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
