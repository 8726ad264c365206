//! Drives the leader machine. The leader is broker 1.
//!
//! Commands: `lead replicas=1,2,3 isr=1,2 epoch=5 start=100 hw=90 min=2 lag=30`, `alone END`,
//! `local END`, `fetch BROKER END at=TIME [epoch=N] [ineligible]`, `tick TIME`,
//! `committed ISR version=N`, `rejected version=N [unknown]`, `min N`.

use std::collections::BTreeSet;

use millrace_model::{BrokerId, LeaderEpoch, Offset, Timestamp};
use millrace_replication::{Effect, InSyncChange, Input, Leader, LeaderSettings, Rejection};

use super::Scripted;

#[derive(Default)]
pub(crate) struct Machine {
    leader: Option<Leader>,
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        match words {
            ["lead", ..] => self.leader = Some(lead(words)),
            ["alone", end] => {
                let end = Offset(end.parse().unwrap());
                self.leader = Some(Leader::alone(BrokerId(1), LeaderEpoch(5), end, 1));
            }
            _ => {
                let leader = self.leader.as_mut().expect("lead comes first");
                let before = leader.high_watermark();
                let mut effects = Vec::new();
                leader.handle(input(words, leader.epoch()), &mut effects);
                assert!(leader.high_watermark() >= before, "it never falls");
                lines.extend(effects.iter().map(show));
            }
        }
        let leader = self.leader.as_ref().expect("lead comes first");
        lines.push(format!(
            "hw={}{} isr={} {:?}",
            leader.high_watermark(),
            if leader.is_high_watermark_known() {
                ""
            } else {
                " (hidden)"
            },
            list(leader.in_sync()),
            leader.admit(),
        ));
        lines
    }
}

fn lead(words: &[&str]) -> Leader {
    let number = |name: &str| value(words, name).unwrap().parse::<u64>().unwrap();
    let settings = LeaderSettings {
        broker: BrokerId(1),
        replicas: brokers(value(words, "replicas").unwrap()),
        in_sync: brokers(value(words, "isr").unwrap()),
        partition_epoch: 0,
        epoch: LeaderEpoch(5),
        epoch_start: Offset(number("start")),
        high_watermark: Offset(number("hw")),
        min_in_sync: u32::try_from(number("min")).unwrap(),
        max_lag_ms: 30,
    };
    Leader::new(settings, Timestamp(0))
}

fn input(words: &[&str], epoch: LeaderEpoch) -> Input {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let version = || value(words, "version").unwrap().parse().unwrap();
    match *words {
        ["local", end] => Input::LocalEnd(Offset(number(end))),
        ["fetch", broker, end, ..] => Input::Fetched {
            replica: BrokerId(broker.parse().unwrap()),
            epoch: value(words, "epoch").map_or(epoch, |epoch| LeaderEpoch(epoch.parse().unwrap())),
            end: Offset(number(end)),
            eligible: !words.contains(&"ineligible"),
            now: Timestamp(value(words, "at").unwrap().parse().unwrap()),
        },
        ["tick", now] => Input::Tick(Timestamp(now.parse().unwrap())),
        ["committed", isr, _] => Input::Committed(InSyncChange {
            in_sync: brokers(isr),
            partition_epoch: version(),
        }),
        ["rejected", ..] => Input::Rejected {
            partition_epoch: version(),
            rejection: match words.contains(&"unknown") {
                true => Rejection::Unknown,
                false => Rejection::NotAttempted,
            },
        },
        ["min", min] => Input::MinInSync(min.parse().unwrap()),
        _ => panic!("unknown command {words:?}"),
    }
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::HighWatermark(offset) => format!("high watermark {offset}"),
        Effect::Propose(change) => {
            format!(
                "propose {} on version {}",
                list(&change.in_sync),
                change.partition_epoch
            )
        }
        Effect::Refuse { replica, code } => format!("refuse {replica} {code}"),
    }
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn brokers(text: &str) -> BTreeSet<BrokerId> {
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
