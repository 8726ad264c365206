//! Requests as words. Every one is `VERB TICKET GROUP name=value ...`.
//!
//! `join client=C member=M instance=I type=T session=MS rebalance=MS protocols=range:a+b;sticky:a v3 v9`: the
//! part after a protocol's colon is topics for type `consumer`, else its metadata. From version 4 on (the default)
//! a member needs an id, from version 9 on it can skip the assignment. `sync member=M gen=N assign=M:TEXT;M:TEXT` (or
//! `assign-topics=M:a-0+a-1`, which is what a consumer can read),
//! `heartbeat member=M gen=N waits` (without the last word it cannot wait), `leave M1 M2 instance=I`, `commit member=M gen=N retention=MS a-0=5 a-1=7@3:text`,
//! `fetch a-0 a-1`, `delete-offsets a-0`, `delete`, `describe [classic|consumer]`, `list`, and
//! `beat member=M epoch=N topics=a+b regex=R assignor=A owned=a-0+a-1 rebalance=MS rack=R`.

use bytes::Bytes;
use millrace_groups::{
    AlterOffsets, Client, CommitOffset, CommittedOffset, ConsumerHeartbeat, FetchOffsets,
    GroupSettings, GroupType, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, OwnedPartitions,
    Request, SaidOffset, SyncGroup, TopicImage, TopicsImage,
};
use millrace_model::{LeaderEpoch, TopicId};

pub(crate) fn request(verb: &str, words: &[&str], topics: &TopicsImage) -> (Client, Request) {
    let client = Client {
        id: value(words, "client").unwrap_or("c").to_owned(),
        host: "/h".to_owned(),
    };
    let group = words.first().copied().unwrap_or_default().to_owned();
    let rest = words.get(1..).unwrap_or_default();
    let request = match verb {
        "join" => Request::Join(join(group, rest)),
        "sync" => Request::Sync(sync(group, rest)),
        "heartbeat" => Request::Heartbeat(Heartbeat {
            group,
            generation: number(rest, "gen", 1),
            member: text(rest, "member"),
            instance: optional(rest, "instance"),
            can_wait: rest.contains(&"waits"),
        }),
        "leave" => Request::Leave(leave(group, rest)),
        "commit" => Request::Commit(commit(group, rest)),
        "fetch" => Request::FetchOffsets(fetch(group, rest)),
        "delete-offsets" => Request::DeleteOffsets {
            group,
            partitions: rest.iter().map(|word| partition(word)).collect(),
        },
        "delete" => Request::Delete { group },
        "describe" => Request::Describe {
            group,
            only: rest.first().map(|word| match *word {
                "classic" => GroupType::Classic,
                "consumer" => GroupType::Consumer,
                other => panic!("{other} is no type"),
            }),
        },
        "list" => Request::List,
        "beat" => Request::ConsumerHeartbeat(beat(group, rest, topics)),
        other => panic!("{other} is no verb"),
    };
    (client, request)
}

/// `a=3 b=1`: names with numbers of partitions; `a/2=3`: the topic's second life.
pub(crate) fn topics(words: &[&str]) -> TopicsImage {
    let mut image = TopicsImage::default();
    for word in words {
        let (name, partitions) = word.split_once('=').unwrap();
        let (name, life) = name.split_once('/').unwrap_or((name, "1"));
        let mut id = TopicId([life.parse().unwrap(); 16]);
        id.0[..name.len()].copy_from_slice(name.as_bytes());
        let partitions = partitions.parse().unwrap();
        image
            .by_name
            .insert(name.to_owned(), TopicImage { id, partitions });
        image.by_id.insert(id, name.to_owned());
    }
    image
}

pub(crate) fn set(settings: &mut GroupSettings, change: &str) {
    let (name, value) = change.split_once('=').unwrap();
    let number = value.parse().unwrap();
    match name {
        "delay" => settings.initial_rebalance_delay_ms = number,
        "hold" => settings.heartbeat_hold_max_ms = number,
        "max-size" => settings.max_size = number,
        "max-write" => settings.max_write_bytes = value.parse().unwrap(),
        "max-groups" => settings.max_groups = number,
        "max-metadata" => settings.offset_metadata_max_bytes = number,
        "retention" => settings.offsets_retention_ms = number.into(),
        "consumer-session" => settings.consumer_session_timeout_ms = number,
        other => panic!("{other} is no setting"),
    }
}

fn join(group: String, words: &[&str]) -> JoinGroup {
    let protocol_type = value(words, "type").unwrap_or("consumer").to_owned();
    let protocols = value(words, "protocols").unwrap_or("range:a");
    let protocols = protocols.split(';').filter(|each| !each.is_empty());
    JoinGroup {
        group,
        member: text(words, "member"),
        instance: optional(words, "instance"),
        protocols: protocols
            .map(|protocol| {
                let (name, says) = protocol.split_once(':').unwrap();
                let metadata = match protocol_type.as_str() {
                    "consumer" => subscription(says),
                    _ => Bytes::copy_from_slice(says.as_bytes()),
                };
                (name.to_owned(), metadata)
            })
            .collect(),
        protocol_type,
        session_timeout_ms: number(words, "session", 10_000),
        rebalance_timeout_ms: number(words, "rebalance", 20_000),
        needs_member_id: !words.contains(&"v3"),
        can_skip_assignment: words.contains(&"v9"),
        reason: None,
    }
}

fn sync(group: String, words: &[&str]) -> SyncGroup {
    let assignments = value(words, "assign").unwrap_or_default();
    let assignments = assignments.split(';').filter(|each| !each.is_empty());
    SyncGroup {
        group,
        generation: number(words, "gen", 1),
        member: text(words, "member"),
        instance: optional(words, "instance"),
        protocol_type: optional(words, "type"),
        protocol_name: optional(words, "protocol"),
        assignments: match value(words, "assign-topics") {
            Some(says) => vec![assignment(says)],
            None => assignments
                .map(|each| {
                    let (member, text) = each.split_once(':').unwrap();
                    (member.to_owned(), Bytes::copy_from_slice(text.as_bytes()))
                })
                .collect(),
        },
    }
}

fn leave(group: String, words: &[&str]) -> LeaveGroup {
    let leaving = words.iter().filter(|word| !word.starts_with("client="));
    LeaveGroup {
        group,
        members: leaving
            .map(|word| {
                let (member, instance) = match word.strip_prefix("instance=") {
                    Some(instance) => ("", Some(instance.to_owned())),
                    None => (*word, None),
                };
                LeavingMember {
                    member: member.to_owned(),
                    instance,
                    reason: None,
                }
            })
            .collect(),
    }
}

fn commit(group: String, words: &[&str]) -> CommitOffset {
    let offsets = words.iter().filter(|word| {
        let name = word.split('=').next().unwrap();
        name.contains('-')
    });
    CommitOffset {
        group,
        generation_or_epoch: number(words, "gen", -1),
        member: text(words, "member"),
        instance: optional(words, "instance"),
        retention_ms: value(words, "retention").map(|ms| ms.parse().unwrap()),
        offsets: offsets
            .map(|word| {
                let (name, says) = word.split_once('=').unwrap();
                let (topic, partition) = partition(name);
                let (says, metadata) = says.split_once(':').unwrap_or((says, ""));
                let (offset, epoch) = says
                    .split_once('@')
                    .map_or((says, None), |(o, e)| (o, Some(e)));
                AlterOffsets {
                    topic,
                    partition,
                    committed: CommittedOffset {
                        offset: SaidOffset(offset.parse().unwrap()),
                        leader_epoch: epoch.map(|epoch| LeaderEpoch(epoch.parse().unwrap())),
                        metadata: metadata.to_owned(),
                    },
                }
            })
            .collect(),
    }
}

fn fetch(group: String, words: &[&str]) -> FetchOffsets {
    let named: Vec<&&str> = words.iter().filter(|word| !word.contains('=')).collect();
    FetchOffsets {
        group,
        member: optional(words, "member"),
        member_epoch: number(words, "epoch", -1),
        partitions: (!named.is_empty()).then(|| {
            let each = named.iter().map(|word| partition(word));
            each.map(|(topic, partition)| (topic, vec![partition]))
                .collect()
        }),
        require_stable: false,
    }
}

fn beat(group: String, words: &[&str], topics: &TopicsImage) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group,
        member: text(words, "member"),
        member_epoch: number(words, "epoch", 0),
        instance: optional(words, "instance"),
        rack: optional(words, "rack"),
        rebalance_timeout_ms: number(words, "rebalance", -1),
        subscribed_topics: value(words, "topics").map(names),
        subscribed_regex: optional(words, "regex"),
        assignor: optional(words, "assignor"),
        owned: value(words, "owned").map(|owned| {
            let mut by_topic: Vec<OwnedPartitions> = Vec::new();
            for each in names(owned) {
                let (topic, partition) = partition(&each);
                let topic = topics.by_name[&topic].id;
                match by_topic.iter_mut().find(|owned| owned.topic == topic) {
                    Some(owned) => owned.partitions.push(partition),
                    None => by_topic.push(OwnedPartitions {
                        topic,
                        partitions: vec![partition],
                    }),
                }
            }
            by_topic
        }),
    }
}

/// A `ConsumerProtocolSubscription` of version 1, whose topics come in the order given. After a slash
/// come partitions that the member owns.
fn subscription(says: &str) -> Bytes {
    let (topics, owned) = says.split_once('/').unwrap_or((says, ""));
    let mut blob = vec![0, 1];
    let topics = names(topics);
    blob.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        blob.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        blob.extend(topic.as_bytes());
    }
    blob.extend((-1i32).to_be_bytes());
    put_partitions(&mut blob, owned);
    blob.into()
}

/// A member with its `ConsumerProtocolAssignment` of version 1.
fn assignment(says: &str) -> (String, Bytes) {
    let (member, partitions) = says.split_once(':').unwrap();
    let mut blob = vec![0, 1];
    put_partitions(&mut blob, partitions);
    blob.extend((-1i32).to_be_bytes());
    (member.to_owned(), blob.into())
}

/// Each under its topic, however often that comes.
fn put_partitions(blob: &mut Vec<u8>, list: &str) {
    let list = names(list);
    blob.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
    for word in list {
        let (topic, partition) = partition(&word);
        blob.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        blob.extend(topic.as_bytes());
        blob.extend(1u32.to_be_bytes());
        blob.extend(partition.to_be_bytes());
    }
}

fn names(list: &str) -> Vec<String> {
    let names = list.split('+').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn partition(word: &str) -> (String, u32) {
    let (topic, partition) = word.rsplit_once('-').unwrap();
    (topic.to_owned(), partition.parse().unwrap())
}

fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| {
        let (found, value) = word.split_once('=')?;
        (found == name).then_some(value)
    })
}

fn text(words: &[&str], name: &str) -> String {
    value(words, name).unwrap_or_default().to_owned()
}

fn optional(words: &[&str], name: &str) -> Option<String> {
    value(words, name).map(str::to_owned)
}

fn number(words: &[&str], name: &str, default: i32) -> i32 {
    value(words, name).map_or(default, |value| value.parse().unwrap())
}
