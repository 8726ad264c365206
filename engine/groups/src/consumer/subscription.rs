//! What a group subscribes to: names, and what its regular expressions stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_model::TopicId;

use super::limits::MAX_GROUP_REGEXES;
use super::{ConsumerGroup, Member, Moment, failure, regex};
use crate::record::{ConsumerGroupValue, ConsumerMemberValue, RegexValue};
use crate::{Failure, GroupRecord, TopicsImage};

/// What a member says that it subscribes to.
type Spoken<'a> = (&'a [String], Option<&'a str>);

impl ConsumerGroup {
    /// Topics have come, grown or gone. Where that concerns this group its epoch rises, and the next
    /// heartbeat of any member computes the target anew. To be called after a replay too.
    pub fn topics_changed(&mut self, moment: &Moment<'_>) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        let expressions: Vec<String> = self.regexes.keys().cloned().collect();
        for expression in expressions {
            // It compiled when it was subscribed to; if a later version of the broker is stricter,
            // it stands for what it stood for.
            if let Ok(topics) = regex::resolve(&expression, moment.topics) {
                self.write_regex(moment, expression, topics, &mut records);
            }
        }
        if !self.members.is_empty() && self.subscription_hash(moment.topics) != self.metadata_hash {
            self.raise_epoch(moment.topics, &mut records);
        }
        records
    }

    /// Whether a member subscribes to the topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let names = &member.details.subscribed_topics;
            names
                .binary_search_by(|name| name.as_str().cmp(topic))
                .is_ok()
                || self
                    .topics_of_regex(member.details.subscribed_regex.as_deref())
                    .any(|name| name == topic)
        })
    }

    /// The next epoch, with a hash of what is known of the subscribed topics.
    pub(super) fn raise_epoch(&mut self, topics: &TopicsImage, records: &mut Vec<GroupRecord>) {
        let raised = GroupRecord::ConsumerGroup {
            group: self.name.clone(),
            value: Some(ConsumerGroupValue {
                epoch: self.epoch.saturating_add(1),
                metadata_hash: self.subscription_hash(topics),
            }),
        };
        self.write(records, raised);
    }

    /// What a member's regular expression stands for, unless the group knows. Changes nothing.
    ///
    /// # Errors
    /// It is none, or one too many.
    pub(super) fn resolve_new(
        &self,
        details: &ConsumerMemberValue,
        moment: &Moment<'_>,
    ) -> Result<Option<Vec<String>>, Failure> {
        let Some(expression) = &details.subscribed_regex else {
            return Ok(None);
        };
        if self.regexes.contains_key(expression) {
            return Ok(None);
        }
        if self.regexes.len() >= MAX_GROUP_REGEXES {
            return Err(failure(
                millrace_model::ErrorCode::InvalidRegularExpression,
                format!("a group has {MAX_GROUP_REGEXES} different regular expressions at most"),
            ));
        }
        regex::resolve(expression, moment.topics).map(Some)
    }

    /// Writes what an expression stands for, if that is new.
    pub(super) fn write_regex(
        &mut self,
        moment: &Moment<'_>,
        expression: String,
        topics: Vec<String>,
        records: &mut Vec<GroupRecord>,
    ) {
        let known = self.regexes.get(&expression);
        if known.is_none_or(|known| known.topics != topics) {
            let resolved = GroupRecord::Regex {
                group: self.name.clone(),
                regex: expression,
                value: Some(RegexValue {
                    topics,
                    version: 0,
                    timestamp: moment.now,
                }),
            };
            self.write(records, resolved);
        }
    }

    /// Expressions that no member has any more.
    pub(super) fn drop_unused_regexes(&mut self, records: &mut Vec<GroupRecord>) {
        let members = self.members.values();
        let used: BTreeSet<&String> = members
            .filter_map(|member| member.details.subscribed_regex.as_ref())
            .collect();
        let unused: Vec<String> = self
            .regexes
            .keys()
            .filter(|r| !used.contains(r))
            .cloned()
            .collect();
        for regex in unused {
            let dropped = GroupRecord::Regex {
                group: self.name.clone(),
                regex,
                value: None,
            };
            self.write(records, dropped);
        }
    }

    /// What each member subscribes to, as far as it exists. Those that say the same share it.
    pub(super) fn subscriptions(
        &self,
        topics: &TopicsImage,
    ) -> BTreeMap<&str, Rc<BTreeSet<TopicId>>> {
        let mut known: BTreeMap<Spoken<'_>, Rc<BTreeSet<TopicId>>> = BTreeMap::new();
        let mut subscriptions = BTreeMap::new();
        for (id, member) in &self.members {
            let shared = known.entry(spoken(member)).or_insert_with(|| {
                let names = self.names_of(spoken(member));
                Rc::new(
                    names
                        .filter_map(|name| topics.by_name.get(name))
                        .map(|t| t.id)
                        .collect(),
                )
            });
            subscriptions.insert(id.as_str(), Rc::clone(shared));
        }
        subscriptions
    }

    /// FNV-1a over all topics that the group subscribes to and that exist. Never 0, which
    /// stands for unknown.
    fn subscription_hash(&self, topics: &TopicsImage) -> i64 {
        let spoken: BTreeSet<Spoken<'_>> = self.members.values().map(spoken).collect();
        let names: BTreeSet<&str> = spoken.into_iter().flat_map(|s| self.names_of(s)).collect();
        let mut hash = Fnv::default();
        for name in names {
            if let Some(topic) = topics.by_name.get(name) {
                hash.add(name.as_bytes());
                hash.add(&[0]);
                hash.add(&topic.id.0);
                hash.add(&topic.partitions.to_be_bytes());
            }
        }
        hash.finish()
    }

    fn names_of<'a>(&'a self, (names, regex): Spoken<'a>) -> impl Iterator<Item = &'a str> {
        names
            .iter()
            .map(String::as_str)
            .chain(self.topics_of_regex(regex))
    }

    fn topics_of_regex(&self, regex: Option<&str>) -> impl Iterator<Item = &str> {
        let resolved = regex.and_then(|regex| self.regexes.get(regex));
        resolved
            .into_iter()
            .flat_map(|resolved| &resolved.topics)
            .map(String::as_str)
    }
}

fn spoken(member: &Member) -> Spoken<'_> {
    let details = &member.details;
    (
        &details.subscribed_topics,
        details.subscribed_regex.as_deref(),
    )
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    const fn finish(self) -> i64 {
        match self.0.cast_signed() {
            0 => 1,
            hash => hash,
        }
    }
}
