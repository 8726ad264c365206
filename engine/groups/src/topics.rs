//! The topics as the coordinator needs them.

use std::collections::BTreeMap;

use millrace_model::TopicId;

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: u32,
}

/// All topics by name, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsImage {
    /// Topics that can be subscribed to.
    pub by_name: BTreeMap<String, TopicImage>,
    /// Their names.
    pub by_id: BTreeMap<TopicId, String>,
}
