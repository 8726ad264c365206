//! Drives the metadata machine.
//!
//! Commands: `create NAME PARTITIONS [KEY=VALUE...]`, `create-internal NAME PARTITIONS`, `delete NAME`,
//! `alter NAME [partitions=N] [KEY=VALUE...] [-KEY...]`, `producer-ids`,
//! `start BROKER EPOCH`, `show`. Every command also goes through its bytes, and every state
//! through its snapshot.

use millrace_model::{BrokerId, LeaderEpoch, TopicId};
use millrace_replication::{Command, Metadata, Request};

use super::Scripted;

#[derive(Default)]
pub(crate) struct Machine {
    state: Metadata,
    drawn: u8,
}

impl Machine {
    fn request(&mut self, words: &[&str]) -> Request {
        match *words {
            ["create", name, partitions, ref settings @ ..] => {
                self.drawn += 1;
                Request::CreateTopic {
                    name: name.to_owned(),
                    id: TopicId([self.drawn; 16]),
                    partitions: partitions.parse().unwrap(),
                    overrides: settings.iter().map(|setting| pair(setting)).collect(),
                }
            }
            ["create-internal", name, partitions] => {
                self.drawn += 1;
                Request::CreateInternalTopic {
                    name: name.to_owned(),
                    id: TopicId([self.drawn; 16]),
                    partitions: partitions.parse().unwrap(),
                    overrides: Vec::new(),
                }
            }
            ["delete", name] => Request::DeleteTopic {
                name: name.to_owned(),
            },
            ["alter", name, ref changes @ ..] => alter(name, changes),
            ["producer-ids"] => Request::AllocateProducerIds,
            ["start", broker, epoch] => Request::BrokerStarted {
                broker: BrokerId(broker.parse().unwrap()),
                epoch: LeaderEpoch(epoch.parse().unwrap()),
            },
            _ => panic!("unknown command {words:?}"),
        }
    }

    fn show(&self) -> Vec<String> {
        let topic = |topic: &millrace_replication::Topic| {
            let settings = topic
                .overrides
                .iter()
                .map(|o| format!(" {}={}", o.name, o.value));
            let settings: String = settings.collect();
            format!(
                "topic {} {} partitions{settings}",
                topic.name, topic.partitions
            )
        };
        let mut lines: Vec<String> = self.state.topics().map(topic).collect();
        let next = self.state.next_producer_id();
        lines.push(format!(
            "{} partitions, next producer id {next}",
            self.state.partitions()
        ));
        lines
    }
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        if words == ["show"] {
            return self.show();
        }
        let request = self.request(words);
        let before = self.state.clone();
        let answer = match self.state.validate(request) {
            Err(refusal) => {
                assert_eq!(self.state, before, "a refusal changes nothing");
                format!("refused {refusal}")
            }
            Ok(command) => {
                assert_eq!(Command::from_bytes(&command.to_bytes()).unwrap(), command);
                let change = self.state.apply(&command).expect("it was validated");
                format!("{change:?}")
            }
        };
        assert_eq!(
            Metadata::from_snapshot(&self.state.to_snapshot()).unwrap(),
            self.state
        );
        vec![answer]
    }
}

fn pair(setting: &str) -> (String, String) {
    let (name, value) = setting.split_once('=').unwrap();
    (name.to_owned(), value.to_owned())
}

fn alter(name: &str, changes: &[&str]) -> Request {
    let (mut partitions, mut overrides) = (None, Vec::new());
    for change in changes {
        if let Some(count) = change.strip_prefix("partitions=") {
            partitions = Some(count.parse().unwrap());
        } else if let Some(reset) = change.strip_prefix('-') {
            overrides.push((reset.to_owned(), None));
        } else {
            let (name, value) = pair(change);
            overrides.push((name, Some(value)));
        }
    }
    Request::AlterTopic {
        name: name.to_owned(),
        partitions,
        overrides,
    }
}
