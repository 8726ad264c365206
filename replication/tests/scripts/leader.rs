//! Drives the leader machine. The leader is broker 1, in epoch 5; its log has records of epoch 4
//! below.
//!
//! Commands: `lead replicas=1,2,3 isr=1,2 start=100 hw=90 min=2`, `alone END`, `local END`,
//! `fetch BROKER END at=TIME [last=EPOCH] [epoch=N] [life=N] [anew]` (subscribes at first, when
//! told `anew` and in another life; else reports progress), `stand BROKER life=N [fenced]`,
//! `tick TIME`, `committed ISR version=N`, `answer ID refused|unknown|outdated at=TIME`,
//! `answer ID ISR version=N`, `delete START`, `lost BROKER`, `min N`. Frames that are to be sent
//! are sent at once.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::{
    BrokerEpoch, BrokerId, EpochStart, ErrorCode, LeaderEpoch, LeaderEpochs, Offset,
    PartitionEpoch, Timestamp,
};
use millrace_replication::partition::{
    Acks, AlterAnswer, Assignment, Effect, FollowerMessage, InSyncState, Leader, LeaderInput,
    LeaderMessage, Leadership, LogEnds, LogView, Position, ProposalId, ReplicaSettings, SessionId,
    Standing, Watermark,
};

use super::{Scripted, value};

#[derive(Default)]
pub(crate) struct Machine {
    leader: Option<Leader>,
    replicas: BTreeSet<BrokerId>,
    /// The last session of each follower.
    sessions: BTreeMap<BrokerId, SessionId>,
    standings: BTreeMap<BrokerId, Standing>,
    now: Timestamp,
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        match words {
            ["lead", ..] => self.lead(words),
            ["alone", end] => {
                let end = Offset(end.parse().unwrap());
                self.leader = Some(Leader::alone(BrokerId(1), LeaderEpoch(5), end, 1));
            }
            _ => {
                let input = self.input(words);
                self.feed(input, &mut lines);
            }
        }
        let leader = self.leader.as_ref().expect("lead comes first");
        lines.push(format!(
            "hw={}{} isr={} {:?}",
            leader.high_watermark(),
            match leader.visible_end() {
                Some(_) => "",
                None => " (hidden)",
            },
            list(leader.in_sync()),
            leader.admit(Acks::All),
        ));
        lines
    }
}

impl Machine {
    fn lead(&mut self, words: &[&str]) {
        let number = |name: &str| value(words, name).unwrap().parse::<u64>().unwrap();
        self.replicas = brokers(value(words, "replicas").unwrap());
        self.sessions.clear();
        self.now = Timestamp(0);
        let standing = Standing {
            life: BrokerEpoch(1),
            eligible: true,
        };
        self.standings = self.replicas.iter().map(|id| (*id, standing)).collect();
        let leadership = Leadership {
            broker: BrokerId(1),
            life: BrokerEpoch(1),
            epoch: LeaderEpoch(5),
            replicas: self.replicas.clone(),
            in_sync: InSyncState {
                in_sync: brokers(value(words, "isr").unwrap()),
                partition_epoch: PartitionEpoch(0),
            },
            standings: self.standings.clone(),
            high_watermark: Offset(number("hw")),
        };
        let settings = ReplicaSettings {
            min_in_sync: u32::try_from(number("min")).unwrap(),
            max_lag_ms: 30,
            min_backoff_ms: 10,
            max_backoff_ms: 40,
            subscribe_timeout_ms: 100,
            catch_up_lag: 1_000,
        };
        let end = Offset(number("start"));
        let below = EpochStart {
            epoch: LeaderEpoch(4),
            start: Offset::ZERO,
        };
        let ends = LogEnds {
            start: Offset::ZERO,
            durable: end,
            accepted: end,
        };
        let epochs = LeaderEpochs::from_starts(vec![below]).unwrap();
        let log = LogView::new(ends, epochs);
        self.leader = Some(Leader::new(leadership, log, settings, self.now));
    }

    fn feed(&mut self, input: LeaderInput, lines: &mut Vec<String>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let leader = self.leader.as_mut().expect("lead comes first");
            let (before, mut effects) = (leader.high_watermark(), Vec::new());
            leader.handle(self.now, input, &mut effects);
            assert!(leader.high_watermark() >= before, "it never falls");
            for effect in effects {
                lines.push(show(&effect));
                if let Effect::SendFrames {
                    to,
                    session,
                    watermark,
                    ..
                } = effect
                {
                    let next = watermark.end;
                    inputs.push(LeaderInput::FramesSent { to, session, next });
                }
            }
        }
    }

    fn input(&mut self, words: &[&str]) -> LeaderInput {
        let number = |text: &str| text.parse::<u64>().unwrap();
        if let Some(at) = value(words, "at") {
            self.now = Timestamp(at.parse().unwrap());
        }
        let state = |isr: &str| InSyncState {
            in_sync: brokers(isr),
            partition_epoch: PartitionEpoch(value(words, "version").unwrap().parse().unwrap()),
        };
        match *words {
            ["local", end] => LeaderInput::LocalEnd(Offset(number(end))),
            ["delete", start] => LeaderInput::LogStart(Offset(number(start))),
            ["fetch", broker, end, ..] => LeaderInput::Message {
                from: BrokerId(broker.parse().unwrap()),
                message: self.fetch(
                    BrokerId(broker.parse().unwrap()),
                    Offset(number(end)),
                    words,
                ),
            },
            ["stand", broker, ..] => {
                let standing = Standing {
                    life: BrokerEpoch(number(value(words, "life").unwrap())),
                    eligible: !words.contains(&"fenced"),
                };
                self.standings
                    .insert(BrokerId(broker.parse().unwrap()), standing);
                LeaderInput::Standings(self.standings.clone())
            }
            ["tick", now] => {
                self.now = Timestamp(now.parse().unwrap());
                LeaderInput::Tick
            }
            ["committed", isr, ..] => {
                let state = state(isr);
                if let Some(replicas) = value(words, "replicas") {
                    self.replicas = brokers(replicas);
                }
                LeaderInput::Assigned(Assignment {
                    leader: Some(BrokerId(1)),
                    leader_epoch: LeaderEpoch(5),
                    partition_epoch: state.partition_epoch,
                    replicas: self.replicas.clone(),
                    in_sync: state.in_sync,
                })
            }
            ["answer", id, answer, ..] => LeaderInput::Answered {
                id: ProposalId(number(id)),
                answer: match answer {
                    "refused" => AlterAnswer::NotAttempted,
                    "unknown" => AlterAnswer::Unknown,
                    "outdated" => AlterAnswer::Outdated,
                    isr => AlterAnswer::Committed(state(isr)),
                },
            },
            ["lost", broker] => {
                let to = BrokerId(broker.parse().unwrap());
                LeaderInput::SendingFailed {
                    to,
                    session: self.sessions[&to],
                    code: ErrorCode::BrokerNotAvailable,
                }
            }
            ["min", min] => LeaderInput::MinInSync(min.parse().unwrap()),
            _ => panic!("unknown command {words:?}"),
        }
    }

    fn fetch(&mut self, broker: BrokerId, end: Offset, words: &[&str]) -> FollowerMessage {
        let epoch = value(words, "epoch").map_or(5, |epoch| epoch.parse().unwrap());
        let known = self.sessions.get(&broker).copied();
        let life = value(words, "life").map(|life| BrokerEpoch(life.parse().unwrap()));
        let life = life.or(known.map(|session| session.life));
        let life = life.unwrap_or(BrokerEpoch(1));
        let same = known.filter(|session| session.life == life && !words.contains(&"anew"));
        if let Some(session) = same {
            return FollowerMessage::Progress {
                session,
                epoch: LeaderEpoch(epoch),
                end,
            };
        }
        let number = known.map_or(1, |session| session.number + 1);
        let session = SessionId { life, number };
        self.sessions.insert(broker, session);
        let start = self
            .leader
            .as_ref()
            .expect("lead comes first")
            .epoch_start();
        let last = value(words, "last").map(|last| LeaderEpoch(last.parse().unwrap()));
        let last = last.or(Some(LeaderEpoch(if end > start { 5 } else { 4 })));
        FollowerMessage::Subscribe {
            session,
            epoch: LeaderEpoch(epoch),
            position: Position {
                end,
                last_epoch: last,
                log_start: Offset::ZERO,
            },
        }
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::HighWatermark(offset) => format!("high watermark {offset}"),
        Effect::FailWaiting => "fail who waits".to_owned(),
        Effect::Propose(proposal) => format!(
            "propose #{} {} on version {}",
            proposal.id.0,
            list(&proposal.in_sync.keys().copied().collect()),
            proposal.partition_epoch
        ),
        Effect::Send { to, message, .. } => format!("to {to}: {}", show_message(message)),
        Effect::SendFrames {
            to,
            from,
            watermark,
            class,
            ..
        } => format!(
            "to {to}: frames from {from}, {}, {class:?}",
            mark(*watermark)
        ),
        other => format!("{other:?}"),
    }
}

pub(crate) fn show_message(message: &LeaderMessage) -> String {
    match message {
        LeaderMessage::Frames(header) => format!(
            "frames {}..{}, {}",
            header.base,
            header.end,
            mark(header.watermark)
        ),
        LeaderMessage::Watermark(watermark) => mark(*watermark),
        LeaderMessage::Diverging { epoch, end } => format!("epoch {epoch} ends at {end}"),
        LeaderMessage::OutOfRange { log_start } => format!("out of range, start at {log_start}"),
        LeaderMessage::Refused(code) => format!("refused, {code}"),
    }
}

fn mark(mark: Watermark) -> String {
    format!(
        "hw {} start {} end {}",
        mark.high_watermark, mark.log_start, mark.end
    )
}

pub(crate) fn brokers(text: &str) -> BTreeSet<BrokerId> {
    text.split(',')
        .map(|broker| BrokerId(broker.parse().unwrap()))
        .collect()
}

fn list(brokers: &BTreeSet<BrokerId>) -> String {
    brokers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
