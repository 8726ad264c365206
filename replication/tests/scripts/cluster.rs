//! Drives the cluster's state machine.
//!
//! Commands: `found`, `register BROKER [run=N] [clean=EPOCH] [rack=R] [shards=N]`, `unfence BROKER`,
//! `fence BROKER`, `stop BROKER`, `cordon BROKER`, `uncordon BROKER`, `unregister BROKER`,
//! `create NAME 1,2,3 [2,3,1...] [KEY=VALUE...]`, `place NAME PARTITIONS REPLICAS`, `grow NAME TOTAL`,
//! `delete NAME`, `set NAME KEY=VALUE`, `reset NAME KEY`, `alter NAME-PARTITION isr=1,2 [by=BROKER]
//! [leader-epoch=N] [epoch=N] [life=BROKER:EPOCH] [recovering]`, `reassign NAME-PARTITION 4,5,6`,
//! `cancel NAME-PARTITION`, `resign NAME-PARTITION by=BROKER [leader-epoch=N]`, `prefer NAME-PARTITION`, `unclean NAME-PARTITION`, `producer-ids BROKER`,
//! `level N`, `show`, `brokers`, `unbalanced MOST`, `drains MOST`. What is not said is as the state
//! has it. Every command also goes through its bytes, and every state through its snapshot.

use millrace_model::{
    BrokerEpoch, BrokerId, ClusterId, IncarnationId, LeaderEpoch, LogId, PartitionEpoch,
    PartitionId, TopicId,
};
use millrace_replication::Override;
use millrace_replication::cluster::{
    AlterPartition, Answer, Applied, Changed, Cluster, ClusterRequest, Command, ConfigChange,
    ConfigOwner, ElectionKind, FEATURE_LEVELS, FeatureRange, InSyncMember, LeaderRecovery,
    NewTopic, Partition, Registration, Resignation,
};
use millrace_replication::quorum::Index;

use super::Scripted;

#[derive(Default)]
pub(crate) struct Machine {
    state: Cluster,
    drawn: u8,
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        match *words {
            ["show"] => return self.show(),
            ["brokers"] => return self.brokers(),
            ["unbalanced", most] => {
                let moves = self.state.unbalanced_leaders(most.parse().unwrap());
                let line = |it: &millrace_replication::cluster::LeaderMove| {
                    format!("{} to {}", self.name(it.log), it.to)
                };
                return moves.iter().map(line).collect();
            }
            ["drains", most] => {
                let drains = self.state.drains(most.parse().unwrap());
                let line = |(log, target): &(LogId, Vec<BrokerId>)| {
                    format!("{} to {}", self.name(*log), list(target))
                };
                return drains.iter().map(line).collect();
            }
            _ => {}
        }
        let lines = match self.command(words) {
            Err(refusal) => vec![format!("refused {refusal}")],
            Ok(command) => self.apply(&command),
        };
        let again = Cluster::from_snapshot(&self.state.to_snapshot());
        assert_eq!(again.as_ref(), Ok(&self.state));
        lines
    }
}

impl Machine {
    fn apply(&mut self, command: &Command) -> Vec<String> {
        assert_eq!(
            Command::from_bytes(&command.to_bytes()).as_ref(),
            Ok(command)
        );
        let before = self.state.clone();
        let index = Index(self.state.applied().0 + 1);
        match self.state.apply(index, command) {
            Ok(applied) => self.told(&applied),
            Err(refusal) => {
                let same = before.topics().eq(self.state.topics())
                    && before.brokers().eq(self.state.brokers());
                assert!(same, "a refusal changes nothing");
                vec![format!("refused {refusal}")]
            }
        }
    }

    fn told(&self, applied: &Applied) -> Vec<String> {
        let mut lines = match &applied.answer {
            Answer::Done => Vec::new(),
            Answer::Partitions(outcomes) => {
                let code = |outcome: &millrace_replication::cluster::PartitionOutcome| {
                    outcome.code.to_string()
                };
                outcomes.iter().map(code).collect()
            }
            answer => vec![format!("{answer:?}")],
        };
        for changed in &applied.changes {
            let line = match changed {
                Changed::Partition { log, .. } => {
                    let partition = self.state.partition(*log).unwrap();
                    format!("{} {}", self.name(*log), describe(partition))
                }
                Changed::TopicCreated(id) => {
                    let topic = self.state.topic(*id).unwrap();
                    for (log, partition) in topic.logs() {
                        lines.push(format!("{} {}", self.name(log), describe(partition)));
                    }
                    format!("created {}", topic.name)
                }
                other => format!("{other:?}"),
            };
            lines.push(line);
        }
        match lines.is_empty() {
            true => vec!["nothing changes".to_owned()],
            false => lines,
        }
    }

    fn command(&mut self, words: &[&str]) -> Result<Command, millrace_replication::Refusal> {
        let rest = words.get(2..).unwrap_or_default();
        Ok(match *words {
            ["found"] => Command::Found {
                cluster: ClusterId([1; 16]),
                level: 1,
            },
            ["register", broker, ..] => Command::Register(registration(id(broker), rest)),
            ["unfence", broker] => Command::Unfence {
                broker: id(broker),
                epoch: self.life(id(broker)),
            },
            ["fence", broker] => Command::Fence {
                broker: id(broker),
                epoch: self.life(id(broker)),
            },
            ["stop", broker] => Command::BeginShutdown {
                broker: id(broker),
                epoch: self.life(id(broker)),
            },
            [word @ ("cordon" | "uncordon"), broker] => Command::Cordon {
                broker: id(broker),
                cordoned: word == "cordon",
            },
            ["unregister", broker] => Command::Unregister { broker: id(broker) },
            ["create", name, ..] => Command::CreateTopic(self.new_topic(name, rest)),
            ["place", name, partitions, replication] => {
                let request = ClusterRequest::CreateTopic {
                    name: name.to_owned(),
                    id: self.draw(),
                    partitions: partitions.parse().unwrap(),
                    replication: replication.parse().unwrap(),
                    overrides: Vec::new(),
                    internal: false,
                };
                self.state.plan(request)?
            }
            ["grow", name, total] => self.state.plan(ClusterRequest::CreatePartitions {
                name: name.to_owned(),
                total: total.parse().unwrap(),
                assignments: None,
            })?,
            ["delete", name] => self.state.plan(ClusterRequest::DeleteTopic {
                name: name.to_owned(),
            })?,
            [word @ ("set" | "reset"), name, setting] => {
                let (key, value) = match word {
                    "set" => setting.split_once('=').map(|(k, v)| (k, Some(v))).unwrap(),
                    _ => (setting, None),
                };
                let topic = self.state.topic_named(name).unwrap();
                Command::AlterConfigs {
                    owner: ConfigOwner::Topic(topic.id),
                    changes: vec![ConfigChange {
                        name: key.to_owned(),
                        value: value.map(str::to_owned),
                    }],
                }
            }
            ["alter", partition, ..] => self.alter(self.log(partition), rest),
            ["reassign", partition, target] => Command::Reassign {
                partition: self.log(partition),
                target: Some(brokers(target)),
            },
            ["cancel", partition] => Command::Reassign {
                partition: self.log(partition),
                target: None,
            },
            ["resign", partition, ..] => self.resign(self.log(partition), rest),
            [word @ ("prefer" | "unclean"), partition] => Command::ElectLeaders {
                kind: match word {
                    "prefer" => ElectionKind::Preferred,
                    _ => ElectionKind::Unclean,
                },
                partitions: vec![self.log(partition)],
            },
            ["producer-ids", broker] => Command::AllocateProducerIds {
                broker: id(broker),
                epoch: self.life(id(broker)),
            },
            ["level", level] => Command::SetFeatureLevel {
                level: level.parse().unwrap(),
            },
            _ => panic!("unknown command {words:?}"),
        })
    }

    fn draw(&mut self) -> TopicId {
        self.drawn += 1;
        TopicId([self.drawn; 16])
    }

    fn new_topic(&mut self, name: &str, words: &[&str]) -> NewTopic {
        let (settings, replicas): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| word.contains('='));
        let setting = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            Override {
                name: name.to_owned(),
                value: value.to_owned(),
            }
        };
        NewTopic {
            name: name.to_owned(),
            id: self.draw(),
            overrides: settings.iter().map(setting).collect(),
            assignments: replicas.iter().map(|text| brokers(text)).collect(),
        }
    }

    fn alter(&self, log: LogId, words: &[&str]) -> Command {
        let now = self.state.partition(log).cloned().unwrap_or_default();
        let broker = value(words, "by").map_or(now.leader.unwrap_or_default(), id);
        let number = |name: &str| value(words, name).map(|text| text.parse::<u32>().unwrap());
        let life = value(words, "life").map(|text| {
            let (broker, epoch) = text.split_once(':').unwrap();
            (id(broker), BrokerEpoch(epoch.parse().unwrap()))
        });
        let member = |broker: BrokerId| InSyncMember {
            broker,
            epoch: match life {
                Some((other, epoch)) if other == broker => epoch,
                _ => self.life(broker),
            },
        };
        let in_sync = brokers(value(words, "isr").unwrap());
        let recovery = match words.contains(&"recovering") {
            true => LeaderRecovery::Recovering,
            false => LeaderRecovery::Recovered,
        };
        Command::AlterPartitions {
            broker,
            epoch: self.life(broker),
            partitions: vec![AlterPartition {
                log,
                leader_epoch: number("leader-epoch").map_or(now.leader_epoch, LeaderEpoch),
                partition_epoch: number("epoch").map_or(now.partition_epoch, PartitionEpoch),
                in_sync: in_sync.into_iter().map(member).collect(),
                recovery,
            }],
        }
    }

    fn resign(&self, log: LogId, words: &[&str]) -> Command {
        let broker = id(value(words, "by").unwrap());
        let now = self.state.partition(log).cloned().unwrap_or_default();
        let epoch = value(words, "leader-epoch").map(|text| LeaderEpoch(text.parse().unwrap()));
        Command::ResignLeaders {
            broker,
            epoch: self.life(broker),
            partitions: vec![Resignation {
                log,
                leader_epoch: epoch.unwrap_or(now.leader_epoch),
            }],
        }
    }

    fn life(&self, broker: BrokerId) -> BrokerEpoch {
        let known = self.state.broker(broker);
        known.map_or(BrokerEpoch(0), |known| known.epoch)
    }

    fn log(&self, text: &str) -> LogId {
        let (name, partition) = text.rsplit_once('-').unwrap();
        let topic = self.state.topic_named(name);
        LogId {
            topic: topic.map_or(TopicId::default(), |topic| topic.id),
            partition: PartitionId(partition.parse().unwrap()),
        }
    }

    fn name(&self, log: LogId) -> String {
        let topic = self.state.topic(log.topic).unwrap();
        format!("{}-{}", topic.name, log.partition)
    }

    fn show(&self) -> Vec<String> {
        let logs = self.state.topics().flat_map(|topic| topic.logs());
        let line = |(log, partition)| format!("{} {}", self.name(log), describe(partition));
        logs.map(line).collect()
    }

    fn brokers(&self) -> Vec<String> {
        let line = |broker: &millrace_replication::cluster::Broker| {
            let cordoned = if broker.cordoned { " cordoned" } else { "" };
            format!(
                "{} life {} {:?}{cordoned}",
                broker.id, broker.epoch, broker.state
            )
        };
        self.state.brokers().map(line).collect()
    }
}

fn registration(broker: BrokerId, words: &[&str]) -> Registration {
    let number = |name: &str| value(words, name).map(|text| text.parse::<u64>().unwrap());
    Registration {
        cluster: match words.contains(&"stray") {
            true => ClusterId([2; 16]),
            false => ClusterId([1; 16]),
        },
        id: broker,
        incarnation: IncarnationId(u128::from(number("run").unwrap_or(0)).to_be_bytes()),
        clean_from: number("clean").map(BrokerEpoch),
        rack: value(words, "rack").map(str::to_owned),
        endpoints: Vec::new(),
        shards: number("shards").map_or(1, |shards| u8::try_from(shards).unwrap()),
        features: value(words, "levels").map_or(FEATURE_LEVELS, levels),
    }
}

/// Feature levels as in `1-2`.
fn levels(text: &str) -> FeatureRange {
    let (least, most) = text.split_once('-').unwrap();
    FeatureRange {
        least: least.parse().unwrap(),
        most: most.parse().unwrap(),
    }
}

fn describe(partition: &Partition) -> String {
    let mut text = format!(
        "leader={} epoch={} version={} replicas={} isr={}",
        partition
            .leader
            .map_or("none".to_owned(), |leader| leader.to_string()),
        partition.leader_epoch,
        partition.partition_epoch,
        list(&partition.replicas),
        list(&partition.in_sync),
    );
    let mut add = |name: &str, brokers: &[BrokerId]| {
        if !brokers.is_empty() {
            text += &format!(" {name}={}", list(brokers));
        }
    };
    add("eligible", &partition.eligible);
    add(
        "last",
        &partition.last_leader.into_iter().collect::<Vec<_>>(),
    );
    add("adding", &partition.adding);
    add("removing", &partition.removing);
    if partition.recovery == LeaderRecovery::Recovering {
        text += " recovering";
    }
    text
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn id(text: &str) -> BrokerId {
    BrokerId(text.parse().unwrap())
}

fn brokers(text: &str) -> Vec<BrokerId> {
    text.split(',').map(id).collect()
}

fn list(brokers: &[BrokerId]) -> String {
    match brokers.is_empty() {
        true => "none".to_owned(),
        false => brokers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
    }
}
