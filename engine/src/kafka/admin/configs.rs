//! DescribeConfigs and ListConfigResources.
//!
//! A topic's settings are its own or the broker's defaults, which the broker's configuration sets
//! or leaves as they are built in. The broker's settings are read-only: they come from its file,
//! environment and flags.

use std::rc::Rc;

use millrace_kafka::{
    ConfigResource, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use millrace_model::{ErrorCode, TopicSettings};
use millrace_replication::Refusal;

use super::told;
use crate::config::{Entry, topic_default_of};
use crate::kafka::cluster::node_id;
use crate::kafka::context::RequestContext;
use crate::shard::{Shard, overrides, topic_settings_of};

/// What has settings, by Kafka's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    pub(super) fn from_i8(number: i8) -> Result<Self, Refusal> {
        match number {
            2 => Ok(Self::Topic),
            4 => Ok(Self::Broker),
            8 => Ok(Self::BrokerLogger),
            16 => Ok(Self::ClientMetrics),
            32 => Ok(Self::Group),
            _ => {
                let message = format!("there is no resource of type {number}");
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
        }
    }
}

/// Where a value comes from, by Kafka's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigSource {
    Topic = 1,
    StaticBroker = 4,
    Default = 5,
}

/// What a value is, by Kafka's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConfigType {
    Boolean = 1,
    String = 2,
    Long = 5,
    List = 7,
}

/// A setting of a topic in force.
pub(super) struct TopicEntry {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) source: ConfigSource,
}

/// A topic's settings, each with its source.
pub(super) fn topic_entries(
    shard: &Shard,
    settings: &TopicSettings,
    is_override: impl Fn(&str) -> bool,
) -> impl Iterator<Item = TopicEntry> {
    let builtin = TopicSettings::default().entries();
    let defaults = shard.topics().defaults().entries();
    let entries = settings
        .entries()
        .into_iter()
        .zip(defaults.into_iter().zip(builtin));
    entries.map(move |((name, value), (default, builtin))| TopicEntry {
        name: name.to_owned(),
        value,
        source: match is_override(name) {
            true => ConfigSource::Topic,
            false if default.1 != builtin.1 => ConfigSource::StaticBroker,
            false => ConfigSource::Default,
        },
    })
}

/// Answers DescribeConfigs.
pub(in crate::kafka) async fn describe_configs(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let describe = |resource: DescribeConfigsResource| {
        let wants = Wants {
            keys: resource.configuration_keys.as_deref(),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let described = match ResourceType::from_i8(resource.resource_type) {
            Ok(ResourceType::Topic) => topic_configs(shard, &resource.resource_name, &wants),
            Ok(ResourceType::Broker) => broker_configs(shard, &resource.resource_name, &wants),
            // These exist in Kafka; here none of them has a setting.
            Ok(ResourceType::BrokerLogger | ResourceType::ClientMetrics | ResourceType::Group) => {
                Ok(Vec::new())
            }
            Err(refusal) => Err(refusal),
        };
        let (configs, result) = match described {
            Ok(configs) => (configs, Ok(())),
            Err(refusal) => (Vec::new(), Err(refusal)),
        };
        let (error_code, error_message) = told(result);
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        }
    };
    DescribeConfigsResponse {
        results: request.resources.into_iter().map(describe).collect(),
        ..DescribeConfigsResponse::default()
    }
}

/// What a client wants to know of a resource.
struct Wants<'a> {
    /// Only these; `None` for all.
    keys: Option<&'a [String]>,
    synonyms: bool,
    documentation: bool,
}

impl Wants<'_> {
    fn key(&self, name: &str) -> bool {
        // Kafka reads an empty list as all, too.
        self.keys
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name))
    }
}

fn topic_configs(
    shard: &Shard,
    name: &str,
    wants: &Wants<'_>,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let cluster = shard.topics().cluster();
    let Some(topic) = cluster.topic_named(name) else {
        let message = format!("there is no topic `{name}`");
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let settings = topic_settings_of(shard, topic);
    let broker = shard.config().entries();
    let entries = topic_entries(shard, &settings, |name| overrides(topic, name));
    let wanted = entries.filter(|entry| wants.key(&entry.name));
    let described = wanted.map(|entry| {
        let default = topic_default_of(&entry.name)
            .and_then(|key| broker.iter().find(|known| known.name == key));
        let mut synonyms = Vec::new();
        if entry.source == ConfigSource::Topic {
            synonyms.push(synonym(&entry.name, &entry.value, ConfigSource::Topic));
        }
        synonyms.extend(default.map(|key| synonym(key.name, &key.value, source_of(key))));
        DescribeConfigsResourceResult {
            config_type: type_of(&entry.name, &entry.value) as i8,
            read_only: false,
            config_source: entry.source as i8,
            is_sensitive: false,
            synonyms: if wants.synonyms { synonyms } else { Vec::new() },
            documentation: default
                .filter(|_| wants.documentation)
                .map(|key| key.help.trim().to_owned()),
            name: entry.name,
            value: Some(entry.value),
        }
    });
    Ok(described.collect())
}

fn broker_configs(
    shard: &Shard,
    name: &str,
    wants: &Wants<'_>,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    // No name stands for the default of all brokers, which can only be set at run time: nothing is.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    check_broker(shard, name)?;
    let entries = shard.config().entries().into_iter();
    let wanted = entries.filter(|entry| wants.key(entry.name));
    let described = wanted.map(|entry| {
        let synonyms = vec![synonym(entry.name, &entry.value, source_of(&entry))];
        DescribeConfigsResourceResult {
            config_type: type_of(entry.name, &entry.value) as i8,
            name: entry.name.to_owned(),
            read_only: true,
            config_source: source_of(&entry) as i8,
            is_sensitive: false,
            synonyms: if wants.synonyms { synonyms } else { Vec::new() },
            documentation: wants.documentation.then(|| entry.help.trim().to_owned()),
            value: Some(entry.value),
        }
    });
    Ok(described.collect())
}

/// Whether `name` is this broker's id.
pub(super) fn check_broker(shard: &Shard, name: &str) -> Result<(), Refusal> {
    if name.parse() == Ok(node_id(shard)) {
        return Ok(());
    }
    let message = format!("this is broker {}, not `{name}`", node_id(shard));
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn source_of(entry: &Entry) -> ConfigSource {
    match entry.is_default {
        true => ConfigSource::Default,
        false => ConfigSource::StaticBroker,
    }
}

fn synonym(name: &str, value: &str, source: ConfigSource) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source: source as i8,
    }
}

/// What a value is, as far as it can be told by looking at it.
fn type_of(name: &str, value: &str) -> ConfigType {
    if name == "cleanup.policy" {
        ConfigType::List
    } else if value.parse::<bool>().is_ok() {
        ConfigType::Boolean
    } else if value.parse::<i64>().is_ok() {
        ConfigType::Long
    } else {
        ConfigType::String
    }
}

/// Answers ListConfigResources. Version 0 asks for client metrics, of which there are none.
pub(in crate::kafka) async fn list_config_resources(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let wanted = |resource: ResourceType| {
        context.version > 0
            && (request.resource_types.is_empty()
                || request.resource_types.contains(&(resource as i8)))
    };
    let mut config_resources = Vec::new();
    let mut list = |resource: ResourceType, name: String| {
        config_resources.push(ConfigResource {
            resource_name: name,
            resource_type: resource as i8,
        });
    };
    if wanted(ResourceType::Topic) {
        let cluster = shard.topics().cluster();
        for topic in cluster.topics() {
            list(ResourceType::Topic, topic.name.to_string());
        }
    }
    if wanted(ResourceType::Broker) {
        list(ResourceType::Broker, node_id(shard).to_string());
    }
    ListConfigResourcesResponse {
        config_resources,
        ..ListConfigResourcesResponse::default()
    }
}
