//! The trace: effects as lines.

use std::fmt::Write as _;

use millrace_groups::record::{
    ClassicGroupValue, ConsumerMemberValue, CurrentMemberValue, OffsetValue,
};
use millrace_groups::{
    CommittedOffset, DescribedGroup, Effect, GroupRecord, OwnedPartitions, Response, TopicsImage,
};
use millrace_model::ErrorCode;

/// Generated ids by short names.
#[derive(Default)]
pub(crate) struct Names {
    uuids: Vec<String>,
}

impl Names {
    /// Puts ids for `#N`. A number that was not given yet stays.
    pub(crate) fn resolve(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (at, uuid) in self.uuids.iter().enumerate().rev() {
            line = line.replace(&format!("#{}", at + 1), uuid);
        }
        line
    }

    /// Puts `#N` for ids.
    fn shorten(&mut self, text: &str) -> String {
        let mut short = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(uuid) = rest.get(..36).filter(|text| is_uuid(text)) {
                let at = self.uuids.iter().position(|known| known == uuid);
                let at = at.unwrap_or_else(|| {
                    self.uuids.push(uuid.to_owned());
                    self.uuids.len() - 1
                });
                write!(short, "#{}", at + 1).unwrap();
                rest = &rest[36..];
            } else {
                let next = rest.chars().next().unwrap();
                short.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        short
    }
}

fn is_uuid(text: &str) -> bool {
    text.char_indices().all(|(at, char)| match at {
        8 | 13 | 18 | 23 => char == '-',
        _ => char.is_ascii_hexdigit(),
    })
}

pub(crate) fn effect(effect: &Effect, names: &mut Names, topics: &TopicsImage) -> Vec<String> {
    match effect {
        Effect::WakeAt(at) => vec![format!("wake at {at}")],
        Effect::Append { write, records } => {
            let mut lines = vec![format!("append {}", write.0)];
            for bytes in records {
                let value = bytes.value.as_deref();
                let decoded = GroupRecord::decode(&bytes.key, value).unwrap();
                assert_eq!(&decoded.encode(), bytes, "a record is read back");
                lines.push(format!("  {}", names.shorten(&record(&decoded, topics))));
            }
            lines
        }
        Effect::Respond { ticket, response } => {
            let text = respond(response, topics);
            vec![names.shorten(&format!("{}: {text}", ticket.0))]
        }
    }
}

fn record(record: &GroupRecord, topics: &TopicsImage) -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "removed".to_owned());
    match record {
        GroupRecord::Offset {
            group,
            topic,
            partition,
            value,
        } => {
            let value = text(value.as_ref().map(offset));
            format!("offset {group} {topic}-{partition} {value}")
        }
        GroupRecord::ClassicGroup { group, value } => {
            format!("classic {group} {}", text(value.as_ref().map(classic)))
        }
        GroupRecord::ConsumerGroup { group, value } => {
            let value = text(value.map(|value| format!("epoch={}", value.epoch)));
            format!("consumer {group} {value}")
        }
        GroupRecord::ConsumerMember {
            group,
            member,
            value,
        } => {
            let value = text(value.as_ref().map(consumer_member));
            format!("member {group} {member} {value}")
        }
        GroupRecord::TargetMetadata { group, value } => {
            let value = text(value.map(|value| format!("epoch={}", value.epoch)));
            format!("target {group} {value}")
        }
        GroupRecord::TargetMember {
            group,
            member,
            value,
        } => {
            let value = value.as_ref().map(|value| owned(&value.partitions, topics));
            format!("target {group} {member} {}", text(value))
        }
        GroupRecord::CurrentMember {
            group,
            member,
            value,
        } => {
            let value = value.as_ref().map(|value| current(value, topics));
            format!("current {group} {member} {}", text(value))
        }
        GroupRecord::Regex {
            group,
            regex,
            value,
        } => {
            let value = value.as_ref().map(|value| value.topics.join("+"));
            format!("regex {group} {regex} {}", text(value))
        }
    }
}

fn offset(value: &OffsetValue) -> String {
    let mut text = committed(&value.committed);
    write!(text, " at={}", value.commit_timestamp).unwrap();
    if let Some(expires) = value.expire_timestamp {
        write!(text, " expires={expires}").unwrap();
    }
    text
}

fn committed(committed: &CommittedOffset) -> String {
    let mut text = committed.offset.to_string();
    if let Some(epoch) = committed.leader_epoch {
        write!(text, "@{epoch}").unwrap();
    }
    if !committed.metadata.is_empty() {
        write!(text, ":{}", committed.metadata).unwrap();
    }
    text
}

fn classic(value: &ClassicGroupValue) -> String {
    let mut text = format!(
        "type={} gen={} protocol={} leader={} since={}",
        value.protocol_type,
        value.generation,
        value.protocol.as_deref().unwrap_or("-"),
        value.leader.as_deref().unwrap_or("-"),
        value.state_timestamp
    );
    for member in &value.members {
        write!(
            text,
            " [{}{} {} {}]",
            member.member,
            instance(member.instance.as_ref()),
            blob(&member.subscription),
            blob(&member.assignment)
        )
        .unwrap();
    }
    text
}

fn consumer_member(value: &ConsumerMemberValue) -> String {
    let mut text = format!("topics={}", value.subscribed_topics.join("+"));
    if let Some(regex) = &value.subscribed_regex {
        write!(text, " regex={regex}").unwrap();
    }
    if let Some(instance) = &value.instance {
        write!(text, " instance={instance}").unwrap();
    }
    if value.classic.is_some() {
        text.push_str(" classic");
    }
    text
}

fn current(value: &CurrentMemberValue, topics: &TopicsImage) -> String {
    let mut text = format!(
        "epoch={} before={} {:?} {}",
        value.epoch,
        value.previous_epoch,
        value.state,
        owned(&value.assigned, topics)
    );
    if !value.pending_revocation.is_empty() {
        let pending = owned(&value.pending_revocation, topics);
        write!(text, " revoking {pending}").unwrap();
    }
    text
}

fn owned(all: &[OwnedPartitions], topics: &TopicsImage) -> String {
    let mut each = Vec::new();
    for owned in all {
        let name = topics.by_id.get(&owned.topic).map_or("?", String::as_str);
        each.extend(owned.partitions.iter().map(|at| format!("{name}-{at}")));
    }
    format!("[{}]", each.join(" "))
}

fn respond(response: &Response, topics: &TopicsImage) -> String {
    match response {
        Response::Failed(failure) => failure.code.name().to_owned(),
        Response::MemberIdRequired { member } => format!("MEMBER_ID_REQUIRED {member}"),
        Response::Done => "done".to_owned(),
        Response::Joined(joined) => {
            let mut text = format!(
                "joined gen={} protocol={} leader={} member={}",
                joined.generation,
                joined.protocol_name.as_deref().unwrap_or("-"),
                joined.leader,
                joined.member
            );
            if joined.skip_assignment {
                text.push_str(" skip");
            }
            for member in &joined.members {
                let instance = instance(member.instance.as_ref());
                let metadata = blob(&member.metadata);
                write!(text, " [{}{instance} {metadata}]", member.member).unwrap();
            }
            text
        }
        Response::Synced {
            protocol_name,
            assignment,
            ..
        } => {
            let protocol = protocol_name.as_deref().unwrap_or("-");
            format!("synced protocol={protocol} {}", blob(assignment))
        }
        Response::Left(codes) => format!("left {}", fates(codes)),
        Response::ConsumerHeartbeat {
            member,
            member_epoch,
            assignment,
            ..
        } => {
            let mut text = format!("beat {member} epoch={member_epoch}");
            if let Some(assignment) = assignment {
                write!(text, " {}", owned(assignment, topics)).unwrap();
            }
            text
        }
        Response::Committed(codes) => format!("committed {}", fates(codes)),
        Response::OffsetsDeleted(codes) => format!("deleted {}", fates(codes)),
        Response::Offsets(offsets) => {
            let each = offsets.iter().map(|offset| {
                let value = offset.committed.as_ref().map_or("-".to_owned(), committed);
                format!(" {}-{}={value}", offset.topic, offset.partition)
            });
            format!("offsets{}", each.collect::<String>())
        }
        Response::Described(group) => described(group, topics),
        Response::Listed(groups) => {
            let each = groups.iter().map(|group| {
                format!(
                    " [{} {} {} {}]",
                    group.group,
                    group.protocol_type,
                    group.state.name(),
                    group.group_type.name()
                )
            });
            format!("listed{}", each.collect::<String>())
        }
    }
}

fn described(group: &DescribedGroup, topics: &TopicsImage) -> String {
    let mut text = format!(
        "{} {} {} type={} protocol={} epoch={}",
        group.group,
        group.group_type.name(),
        group.state.name(),
        group.protocol_type,
        group.protocol_name,
        group.epoch
    );
    for member in &group.members {
        write!(text, " [{}", member.member).unwrap();
        text.push_str(&instance(member.instance.as_ref()));
        match &member.consumer {
            None => {
                let (metadata, assignment) = (blob(&member.metadata), blob(&member.assignment));
                write!(text, " {metadata} {assignment}]").unwrap();
            }
            Some(assignment) => {
                let list = |all: &[(millrace_model::TopicId, String, Vec<u32>)]| {
                    let owned: Vec<OwnedPartitions> = all
                        .iter()
                        .map(|(topic, _, partitions)| OwnedPartitions {
                            topic: *topic,
                            partitions: partitions.clone(),
                        })
                        .collect();
                    self::owned(&owned, topics)
                };
                write!(
                    text,
                    " epoch={}{} reads {} of {}]",
                    member.member_epoch,
                    if member.is_classic { " classic" } else { "" },
                    list(&assignment.current),
                    list(&assignment.target)
                )
                .unwrap();
            }
        }
    }
    text
}

fn instance(instance: Option<&String>) -> String {
    instance.map_or_else(String::new, |instance| format!(" ({instance})"))
}

fn fates(codes: &[ErrorCode]) -> String {
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    names.join(" ")
}

/// Text as it is; other bytes as Rust writes them, with `~` for each run of what is no text.
fn blob(blob: &[u8]) -> String {
    let mut text = String::from("'");
    let mut is_gap = false;
    for byte in blob {
        match byte {
            b'!'..=b'~' => {
                text.push(char::from(*byte));
                is_gap = false;
            }
            _ if !is_gap => {
                text.push('~');
                is_gap = true;
            }
            _ => {}
        }
    }
    text.push('\'');
    text
}
