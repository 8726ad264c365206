//! Drives a whole replica: broker 2 in its life 7, mostly as a follower.
//!
//! Commands: `open start=0 end=50 epochs=1@0,2@30`,
//! `assign leader=1 epoch=3 version=4 replicas=1,2 isr=1,2 [at=TIME]` (`leader=none` for nobody),
//! `log durable=N accepted=N [start=N]`, `frames BASE..END epochs=3@50 hw=N end=N [start=N]
//! [session=N]`, `mark hw=N end=N [start=N]`, `diverging EPOCH END`, `out_of_range START`,
//! `refused`, `lost`, `cut END [start=N]`, `append_failed`, `log_failed`, `tick TIME`,
//! `subscribe BROKER END epoch=N`. Messages are of the last session unless told otherwise.

use millrace_model::{
    BrokerEpoch, BrokerId, EpochStart, ErrorCode, LeaderEpoch, LeaderEpochs, Offset,
    PartitionEpoch, Timestamp,
};
use millrace_replication::partition::{
    Assignment, Effect, FollowerInput, FollowerMessage, FramesHeader, Input, LeaderMessage,
    LogEnds, LogView, Position, Replica, ReplicaSettings, Role, SessionId, Watermark,
};

use super::leader::{brokers, show_message};
use super::{Scripted, value};

const LIFE: BrokerEpoch = BrokerEpoch(7);

#[derive(Default)]
pub(crate) struct Machine {
    replica: Option<Replica>,
    session: u64,
    start: u64,
    now: Timestamp,
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        if words[0] == "open" {
            self.open(words);
        } else {
            let input = self.input(words);
            let mut effects = Vec::new();
            let replica = self.replica.as_mut().expect("open comes first");
            replica.handle(self.now, input, &mut effects);
            for effect in effects {
                if let Effect::Pull {
                    message: FollowerMessage::Subscribe { session, .. },
                    ..
                } = effect
                {
                    self.session = session.number;
                }
                lines.push(show(&effect));
            }
        }
        let replica = self.replica.as_ref().expect("open comes first");
        let role = match replica.role() {
            Role::Idle(_) => "idle".to_owned(),
            Role::Leader(leader) => format!("leads in {}", leader.epoch()),
            Role::Follower(follower) => format!(
                "follows {} in {}{}",
                follower.leader(),
                follower.epoch(),
                if follower.is_pulling() {
                    ", pulling"
                } else {
                    ""
                }
            ),
        };
        let wake = replica.next_deadline();
        let wake = wake.map_or_else(String::new, |at| format!(" wake at {at}"));
        lines.push(format!("{role}, hw={}{wake}", replica.high_watermark()));
        lines
    }
}

impl Machine {
    fn open(&mut self, words: &[&str]) {
        let number = |name: &str| value(words, name).unwrap().parse::<u64>().unwrap();
        self.start = number("start");
        self.now = Timestamp(0);
        let end = Offset(number("end"));
        let ends = LogEnds {
            start: Offset(self.start),
            durable: end,
            accepted: end,
        };
        let epochs = value(words, "epochs").map_or_else(Vec::new, epochs);
        let log = LogView::new(ends, LeaderEpochs::from_starts(epochs).unwrap());
        let settings = ReplicaSettings {
            min_in_sync: 1,
            max_lag_ms: 30,
            min_backoff_ms: 10,
            max_backoff_ms: 40,
            subscribe_timeout_ms: 100,
            catch_up_lag: 100,
        };
        self.replica = Some(Replica::new((BrokerId(2), LIFE), log, settings));
    }

    fn input(&mut self, words: &[&str]) -> Input {
        let number = |text: &str| text.parse::<u64>().unwrap();
        let named = |name: &str| value(words, name).map(number);
        if let Some(at) = value(words, "at") {
            self.now = Timestamp(at.parse().unwrap());
        }
        let mark = || Watermark {
            high_watermark: Offset(named("hw").unwrap()),
            log_start: Offset(named("start").unwrap_or(0)),
            end: Offset(named("end").unwrap()),
        };
        let message = match *words {
            ["frames", range, ..] => {
                let (base, end) = range.split_once("..").unwrap();
                LeaderMessage::Frames(FramesHeader {
                    base: Offset(number(base)),
                    end: Offset(number(end)),
                    epochs: epochs(value(words, "epochs").unwrap()),
                    watermark: mark(),
                })
            }
            ["mark", ..] => LeaderMessage::Watermark(mark()),
            ["diverging", epoch, end] => LeaderMessage::Diverging {
                epoch: LeaderEpoch(epoch.parse().unwrap()),
                end: Offset(number(end)),
            },
            ["out_of_range", start] => LeaderMessage::OutOfRange {
                log_start: Offset(number(start)),
            },
            ["refused"] => LeaderMessage::Refused(ErrorCode::UnknownLeaderEpoch),
            _ => return self.other_input(words),
        };
        let number = named("session").unwrap_or(self.session);
        let session = SessionId { life: LIFE, number };
        Input::Follower(FollowerInput::Message { session, message })
    }

    fn other_input(&mut self, words: &[&str]) -> Input {
        let number = |text: &str| text.parse::<u64>().unwrap();
        let named = |name: &str| value(words, name).map(number);
        self.start = named("start").unwrap_or(self.start);
        let start = Offset(self.start);
        match *words {
            ["assign", ..] => Input::Assigned(Assignment {
                leader: value(words, "leader").unwrap().parse().ok(),
                leader_epoch: value(words, "epoch").unwrap().parse().unwrap(),
                partition_epoch: PartitionEpoch(value(words, "version").unwrap().parse().unwrap()),
                replicas: brokers(value(words, "replicas").unwrap()),
                in_sync: brokers(value(words, "isr").unwrap()),
            }),
            ["log", ..] => Input::Log(LogEnds {
                start,
                durable: Offset(named("durable").unwrap()),
                accepted: Offset(named("accepted").unwrap()),
            }),
            ["cut", end, ..] => Input::Cut(LogEnds {
                start,
                durable: Offset(number(end)),
                accepted: Offset(number(end)),
            }),
            ["lost"] => Input::Follower(FollowerInput::StreamLost(SessionId {
                life: LIFE,
                number: self.session,
            })),
            ["append_failed"] => {
                Input::Follower(FollowerInput::AppendFailed(ErrorCode::KafkaStorageError))
            }
            ["log_failed"] => Input::LogFailed,
            ["subscribe", broker, end, ..] => Input::FromFollower {
                from: broker.parse().unwrap(),
                message: FollowerMessage::Subscribe {
                    session: SessionId {
                        life: BrokerEpoch(9),
                        number: 1,
                    },
                    epoch: value(words, "epoch").unwrap().parse().unwrap(),
                    position: Position {
                        end: Offset(number(end)),
                        last_epoch: None,
                        log_start: Offset::ZERO,
                    },
                },
            },
            ["tick", now] => {
                self.now = Timestamp(now.parse().unwrap());
                Input::Tick
            }
            _ => panic!("unknown command {words:?}"),
        }
    }
}

fn epochs(text: &str) -> Vec<EpochStart> {
    let parse = |run: &str| {
        let (epoch, start) = run.split_once('@').unwrap();
        EpochStart {
            epoch: epoch.parse().unwrap(),
            start: start.parse().unwrap(),
        }
    };
    text.split(',').map(parse).collect()
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Pull { to, message } => match message {
            FollowerMessage::Subscribe {
                session,
                epoch,
                position,
            } => format!(
                "to {to}: subscribe {session} in epoch {epoch} from {}, last epoch {:?}, start {}",
                position.end,
                position.last_epoch.map(|epoch| epoch.0),
                position.log_start
            ),
            FollowerMessage::Progress { session, end, .. } => {
                format!("to {to}: {session} is durable to {end}")
            }
            FollowerMessage::Unsubscribe { session } => format!("to {to}: end {session}"),
        },
        Effect::Send { to, message, .. } => format!("to {to}: {}", show_message(message)),
        Effect::HighWatermark(offset) => format!("high watermark {offset}"),
        other => format!("{other:?}"),
    }
}
