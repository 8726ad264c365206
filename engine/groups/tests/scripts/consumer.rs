//! Drives a group of the broker-driven protocol, named `g`.
//!
//! Commands (partitions are `orders:0,1;users:0`, `-` for none):
//! - `topic NAME PARTITIONS`, `no-topic NAME`: they change, and the group is told;
//! - `set max|classic-max|policy VALUE`; `at MS`: the time; `expire`;
//! - `beat MEMBER EPOCH [topics=a,b] [regex=..] [owned=..] [instance=..] [rack=..] [assignor=..] [timeout=MS]`,
//!   `join` is a `beat` with epoch 0 that owns nothing and has a timeout of 1000; MEMBER `-` leaves the id to the broker;
//! - `commit MEMBER EPOCH`, `fetch MEMBER EPOCH`;
//! - `classic-join MEMBER topics=.. [owned=..] [instance=..] [version=..] [assignors=..] [no-id]`,
//!   `classic-sync MEMBER GENERATION [PROTOCOL]`, `classic-beat MEMBER GENERATION`, `remove MEMBER[/INSTANCE]..`;
//! - `classic-group GENERATION MEMBER/TOPIC/PARTITIONS..`: the group is made of a classic one;
//! - `to-classic`, `describe`, `subscribed TOPIC`.
//!
//! Records go through their bytes to a second group, which must come to the same state. A request that
//! fails must change nothing.

use bytes::Bytes;
use millrace_groups::consumer::{
    ClassicMemberPlain, ClassicPlain, ConsumerGroup, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, Moment, Outcome, Partitions,
};
use millrace_groups::record::MemberState;
use millrace_groups::{
    Client, ConsumerHeartbeat, Failure, GroupRecord, GroupSettings, Heartbeat, JoinGroup,
    LeaveGroup, LeavingMember, MigrationPolicy, OwnedPartitions, Response, SyncGroup, TopicImage,
    TopicsImage,
};
use millrace_model::{Timestamp, TopicId};

use super::Scripted;

pub(crate) struct Machine {
    group: ConsumerGroup,
    /// Lives on the records' bytes alone.
    shadow: ConsumerGroup,
    topics: TopicsImage,
    settings: GroupSettings,
    now: Timestamp,
    drawn: u8,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            group: ConsumerGroup::new("g"),
            shadow: ConsumerGroup::new("g"),
            topics: TopicsImage::default(),
            settings: GroupSettings {
                consumer_session_timeout_ms: 500,
                ..GroupSettings::default()
            },
            now: Timestamp(0),
            drawn: 0,
        }
    }
}

impl Scripted for Machine {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        let before = self.group.records();
        let topics = self.topics.clone();
        let settings = self.settings.clone();
        let moment = Moment {
            now: self.now,
            topics: &topics,
            settings: &settings,
        };
        let client = Client {
            id: "c".to_owned(),
            host: "/127.0.0.1".to_owned(),
        };
        let outcome = match *words {
            ["topic", name, partitions] => return self.topic(name, partitions.parse().unwrap()),
            ["no-topic", name] => return self.topic(name, 0),
            ["set", what, value] => {
                match what {
                    "max" => self.settings.consumer_max_size = value.parse().unwrap(),
                    "classic-max" => self.settings.max_size = value.parse().unwrap(),
                    _ => self.settings.migration = policy(value),
                }
                return Vec::new();
            }
            ["at", ms] => {
                self.now = Timestamp(ms.parse().unwrap());
                return Vec::new();
            }
            ["expire"] => {
                let records = self.group.expire(&moment);
                return self.show_records(&records);
            }
            ["join" | "beat", ..] => {
                let request = self.heartbeat(words);
                let fresh = format!("given-{}", self.now.0);
                self.group.heartbeat(&moment, &client, &request, &fresh)
            }
            ["commit", member, epoch] => {
                let checked = self.group.check_commit(member, epoch.parse().unwrap());
                return vec![shown_check(checked)];
            }
            ["fetch", member, epoch] => {
                let member = Some(member).filter(|member| *member != "-");
                let checked = self.group.check_fetch(member, epoch.parse().unwrap());
                return vec![shown_check(checked)];
            }
            ["classic-join", ..] => {
                let fresh = format!("given-{}", self.now.0);
                self.group
                    .join_classic(&moment, &client, &join(words), &fresh)
            }
            ["classic-sync", member, generation, ref protocol @ ..] => {
                let request = SyncGroup {
                    group: "g".to_owned(),
                    generation: generation.parse().unwrap(),
                    member: member.to_owned(),
                    instance: None,
                    protocol_type: Some("consumer".to_owned()),
                    protocol_name: protocol.first().map(|name| (*name).to_owned()),
                    assignments: Vec::new(),
                };
                unrecorded(self.group.sync_classic(&moment, &request))
            }
            ["classic-beat", member, generation] => {
                let request = Heartbeat {
                    group: "g".to_owned(),
                    generation: generation.parse().unwrap(),
                    member: member.to_owned(),
                    instance: None,
                    can_wait: true,
                };
                unrecorded(self.group.heartbeat_classic(&moment, &request))
            }
            ["remove", ref members @ ..] => {
                let request = LeaveGroup {
                    group: "g".to_owned(),
                    members: members.iter().map(|member| leaving(member)).collect(),
                };
                Ok(self.group.leave_group(&moment, &request))
            }
            ["classic-group", generation, ref members @ ..] => {
                let plain = ClassicPlain {
                    generation: generation.parse().unwrap(),
                    members: members.iter().map(|member| plain(member)).collect(),
                };
                return match ConsumerGroup::from_classic(&moment, "g", &plain) {
                    Ok((group, records)) => {
                        self.group = group;
                        self.shadow = ConsumerGroup::new("g");
                        self.show_records(&records)
                    }
                    Err(failure) => vec![shown_failure(&failure)],
                };
            }
            ["to-classic"] => return self.go_classic(&moment),
            ["describe"] => return self.describe(&moment),
            ["subscribed", topic] => return vec![self.group.is_subscribed_to(topic).to_string()],
            _ => panic!("unknown command {words:?}"),
        };
        match outcome {
            Ok(Outcome { response, records }) => {
                let mut lines = vec![self.shown_response(&response)];
                lines.extend(self.show_records(&records));
                if self.group.should_downgrade(&moment) {
                    lines.push("all who are left are classic".to_owned());
                }
                lines
            }
            Err(failure) => {
                assert_eq!(self.group.records(), before, "a failure changes nothing");
                vec![shown_failure(&failure)]
            }
        }
    }
}

impl Machine {
    fn topic(&mut self, name: &str, partitions: u32) -> Vec<String> {
        let old = self.topics.by_name.remove(name);
        if let Some(old) = old {
            self.topics.by_id.remove(&old.id);
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
        let (topics, settings) = (self.topics.clone(), self.settings.clone());
        let moment = Moment {
            now: self.now,
            topics: &topics,
            settings: &settings,
        };
        let records = self.group.topics_changed(&moment);
        self.show_records(&records)
    }

    fn heartbeat(&self, words: &[&str]) -> ConsumerHeartbeat {
        let joins = words[0] == "join";
        let text = |name| value(words, name).map(str::to_owned);
        let names = |list: &str| {
            list.split(',')
                .filter(|n| !n.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let timeout = value(words, "timeout").map(|ms| ms.parse().unwrap());
        let owned = value(words, "owned").map(|owned| self.partitions(owned).to_list());
        ConsumerHeartbeat {
            group: "g".to_owned(),
            member: member_id(words[1]),
            member_epoch: match joins {
                true => 0,
                false => words[2].parse().unwrap(),
            },
            instance: text("instance"),
            rack: text("rack"),
            rebalance_timeout_ms: timeout.unwrap_or(if joins { 1000 } else { -1 }),
            subscribed_topics: value(words, "topics").map(names),
            subscribed_regex: text("regex"),
            assignor: text("assignor"),
            owned: owned.or_else(|| joins.then(Vec::new)),
        }
    }

    fn partitions(&self, text: &str) -> Partitions {
        let named = named(text);
        let each = named.iter().flat_map(|(topic, partitions)| {
            let id = self.topics.by_name[topic].id;
            partitions.iter().map(move |partition| (id, *partition))
        });
        each.collect()
    }

    fn go_classic(&mut self, moment: &Moment<'_>) -> Vec<String> {
        let (plain, records) = self.group.to_classic(moment);
        let mut lines = vec![format!("generation {}", plain.generation)];
        for member in &plain.members {
            let assignment = ConsumerProtocolAssignment::decode(&member.assignment).unwrap();
            let protocols = member.protocols.iter().map(|(name, _)| name.as_str());
            lines.push(format!(
                "{} reads {:?}, knows {}",
                member.member,
                assignment.partitions,
                protocols.collect::<Vec<_>>().join(",")
            ));
        }
        self.group = ConsumerGroup::new("g");
        lines.extend(self.show_records(&records));
        self.group = ConsumerGroup::new("g");
        lines
    }

    fn describe(&self, moment: &Moment<'_>) -> Vec<String> {
        let group = self.group.describe(moment.topics, moment.settings);
        let mut lines = vec![format!(
            "{} epoch={} target={} {}, next deadline {:?}",
            group.state.name(),
            group.epoch,
            group.assignment_epoch,
            group.protocol_name,
            self.group.next_deadline().map(|at| at.0),
        )];
        for member in &group.members {
            let consumer = member.consumer.as_ref().unwrap();
            let list = |all: &[(TopicId, String, Vec<u32>)]| {
                let all = all
                    .iter()
                    .map(|(_, name, partitions)| format!("{name}:{}", numbers(partitions)));
                all.collect::<Vec<_>>().join(";")
            };
            lines.push(format!(
                "{}{} epoch={} reads [{}] shall read [{}]",
                member.member,
                if member.is_classic { " (classic)" } else { "" },
                member.member_epoch,
                list(&consumer.current),
                list(&consumer.target),
            ));
        }
        lines
    }

    /// Also gives them, as bytes, to the shadow.
    fn show_records(&mut self, records: &[GroupRecord]) -> Vec<String> {
        for record in records {
            let bytes = record.encode();
            let read = GroupRecord::decode(&bytes.key, bytes.value.as_deref()).unwrap();
            assert_eq!(&read, record);
            self.shadow.replay(&read);
        }
        assert_eq!(self.shadow.records(), self.group.records());
        assert_eq!(self.shadow.state(), self.group.state());
        records
            .iter()
            .map(|record| format!("  {}", self.shown_record(record)))
            .collect()
    }

    fn shown_record(&self, record: &GroupRecord) -> String {
        match record {
            GroupRecord::ConsumerGroup { value, .. } => match value {
                Some(value) => format!("epoch {}", value.epoch),
                None => "no group".to_owned(),
            },
            GroupRecord::ConsumerMember { member, value, .. } => match value {
                Some(value) => {
                    let mut line =
                        format!("{member} subscribes {}", value.subscribed_topics.join(","));
                    if let Some(regex) = &value.subscribed_regex {
                        line += &format!(" regex {regex}");
                    }
                    if let Some(instance) = &value.instance {
                        line += &format!(" as {instance}");
                    }
                    if value.classic.is_some() {
                        line += " (classic)";
                    }
                    line
                }
                None => format!("no {member}"),
            },
            GroupRecord::TargetMetadata { value, .. } => match value {
                Some(value) => format!("target {}", value.epoch),
                None => "no target".to_owned(),
            },
            GroupRecord::TargetMember { member, value, .. } => match value {
                Some(value) => format!("target of {member} [{}]", self.shown(&value.partitions)),
                None => format!("no target of {member}"),
            },
            GroupRecord::CurrentMember { member, value, .. } => match value {
                Some(value) => {
                    let mut line = format!(
                        "{member} epoch {} after {} reads [{}]",
                        value.epoch,
                        value.previous_epoch,
                        self.shown(&value.assigned)
                    );
                    match value.state {
                        MemberState::Stable => {}
                        MemberState::UnrevokedPartitions => {
                            line +=
                                &format!(" gives up [{}]", self.shown(&value.pending_revocation));
                        }
                        MemberState::UnreleasedPartitions => line += " and waits",
                    }
                    line
                }
                None => format!("no current of {member}"),
            },
            GroupRecord::Regex { regex, value, .. } => match value {
                Some(value) => format!("regex {regex} is {}", value.topics.join(",")),
                None => format!("no regex {regex}"),
            },
            other => panic!("not of this protocol: {other:?}"),
        }
    }

    fn shown_response(&self, response: &Response) -> String {
        match response {
            Response::ConsumerHeartbeat {
                member,
                member_epoch,
                assignment,
                ..
            } => match assignment {
                Some(all) => format!("{member} epoch {member_epoch} [{}]", self.shown(all)),
                None => format!("{member} epoch {member_epoch}"),
            },
            Response::Joined(joined) => format!(
                "joined {} generation {} {}",
                joined.member,
                joined.generation,
                joined.protocol_name.as_deref().unwrap_or("-")
            ),
            Response::MemberIdRequired { member } => format!("come again as {member}"),
            Response::Synced { assignment, .. } => {
                let assignment = ConsumerProtocolAssignment::decode(assignment).unwrap();
                format!("synced v{} {:?}", assignment.version, assignment.partitions)
            }
            Response::Done => "done".to_owned(),
            Response::Left(fates) => format!("left {fates:?}"),
            other => panic!("not of this protocol: {other:?}"),
        }
    }

    fn shown(&self, all: &[OwnedPartitions]) -> String {
        let named = all.iter().map(|owned| {
            let gone = "gone".to_owned();
            let name = self.topics.by_id.get(&owned.topic).unwrap_or(&gone);
            format!("{name}:{}", numbers(&owned.partitions))
        });
        named.collect::<Vec<_>>().join(";")
    }
}

fn unrecorded(response: Result<Response, Failure>) -> Result<Outcome, Failure> {
    response.map(|response| Outcome {
        response,
        records: Vec::new(),
    })
}

fn shown_check(checked: Result<(), Failure>) -> String {
    match checked {
        Ok(()) => "ok".to_owned(),
        Err(failure) => shown_failure(&failure),
    }
}

fn shown_failure(failure: &Failure) -> String {
    format!(
        "{}: {}",
        failure.code,
        failure.message.as_deref().unwrap_or("-")
    )
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn numbers(partitions: &[u32]) -> String {
    let numbers = partitions.iter().map(u32::to_string);
    numbers.collect::<Vec<_>>().join(",")
}

fn member_id(word: &str) -> String {
    match word {
        "-" => String::new(),
        id => id.to_owned(),
    }
}

/// `orders:0,1;users:0`, or `-`.
fn named(text: &str) -> Vec<(String, Vec<u32>)> {
    let topics = text.split(';').filter(|topic| *topic != "-");
    let topic = |topic: &str| {
        let (name, partitions) = topic.split_once(':').unwrap();
        (
            name.to_owned(),
            partitions.split(',').map(|p| p.parse().unwrap()).collect(),
        )
    };
    topics.map(topic).collect()
}

fn policy(text: &str) -> MigrationPolicy {
    match text {
        "bidirectional" => MigrationPolicy::Bidirectional,
        "upgrade" => MigrationPolicy::Upgrade,
        "downgrade" => MigrationPolicy::Downgrade,
        _ => MigrationPolicy::Disabled,
    }
}

fn leaving(text: &str) -> LeavingMember {
    let (member, instance) = match text.split_once('/') {
        Some((member, instance)) => (member, Some(instance.to_owned())),
        None => (text, None),
    };
    LeavingMember {
        member: member.to_owned(),
        instance,
        reason: None,
    }
}

fn join(words: &[&str]) -> JoinGroup {
    let subscription = ConsumerProtocolSubscription {
        version: value(words, "version").map_or(3, |version| version.parse().unwrap()),
        topics: value(words, "topics")
            .unwrap()
            .split(',')
            .map(str::to_owned)
            .collect(),
        owned: named(value(words, "owned").unwrap_or("-")),
        rack: None,
    };
    let metadata = subscription.encode();
    let assignors = value(words, "assignors").unwrap_or("range").split(',');
    JoinGroup {
        group: "g".to_owned(),
        member: member_id(words[1]),
        instance: value(words, "instance").map(str::to_owned),
        protocol_type: value(words, "type").unwrap_or("consumer").to_owned(),
        protocols: assignors
            .map(|name| (name.to_owned(), metadata.clone()))
            .collect(),
        session_timeout_ms: 300,
        rebalance_timeout_ms: 1000,
        needs_member_id: !words.contains(&"no-id"),
        can_skip_assignment: true,
        reason: None,
    }
}

/// `MEMBER/TOPIC/PARTITIONS`.
fn plain(text: &str) -> ClassicMemberPlain {
    let [member, topic, partitions] = text.split('/').collect::<Vec<_>>()[..] else {
        panic!("MEMBER/TOPIC/PARTITIONS, not {text}");
    };
    let subscription = ConsumerProtocolSubscription {
        version: 1,
        topics: vec![topic.to_owned()],
        ..ConsumerProtocolSubscription::default()
    };
    let assignment = ConsumerProtocolAssignment {
        version: 1,
        partitions: named(&format!("{topic}:{partitions}")),
    };
    let broken = Bytes::from_static(b"\0");
    ClassicMemberPlain {
        member: member.to_owned(),
        instance: None,
        client: Client::default(),
        rebalance_timeout_ms: 1000,
        session_timeout_ms: 300,
        protocols: vec![(
            "range".to_owned(),
            match member {
                "broken" => broken,
                _ => subscription.encode(),
            },
        )],
        assignment: assignment.encode(),
    }
}
