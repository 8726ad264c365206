//! AlterConfigs, which replaces all settings of a topic, and IncrementalAlterConfigs, which changes
//! those it names. Only topics have settings that can be changed while the broker runs.

use std::collections::HashSet;
use std::rc::Rc;

use millrace_kafka::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
};
use millrace_model::{ErrorCode, TopicSettings};
use millrace_replication::Refusal;
use millrace_replication::cluster::ClusterRequest;

use super::configs::{ResourceType, check_broker};
use super::{change, doubles, told};
use crate::kafka::context::RequestContext;
use crate::shard::Shard;

/// A setting to set, or to reset to its default.
type Change = (String, Option<String>);

/// Answers AlterConfigs.
pub(in crate::kafka) async fn alter_configs(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut alteration = Alteration::new(shard, request.validate_only);
    alteration.forbid_doubles(
        request
            .resources
            .iter()
            .map(|r| (r.resource_type, r.resource_name.as_str())),
    );
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let wanted = resource.configs.iter();
        let wanted: Vec<Change> = wanted
            .map(|config| (config.name.clone(), config.value.clone()))
            .collect();
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let changes = replacing(shard, name, wanted);
        let (error_code, error_message) = alteration.of(kind, name, Ok(changes)).await;
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: kind,
            resource_name: name.clone(),
        });
    }
    AlterConfigsResponse {
        responses,
        ..AlterConfigsResponse::default()
    }
}

/// Answers IncrementalAlterConfigs.
pub(in crate::kafka) async fn incremental_alter_configs(
    shard: &Rc<Shard>,
    _: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut alteration = Alteration::new(shard, request.validate_only);
    alteration.forbid_doubles(
        request
            .resources
            .iter()
            .map(|r| (r.resource_type, r.resource_name.as_str())),
    );
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let operations = resource.configs.iter();
        let changes: Result<Vec<Change>, Refusal> = operations
            .map(|config| operation(&config.name, config.config_operation, config.value.clone()))
            .collect();
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let (error_code, error_message) = alteration.of(kind, name, changes).await;
        responses.push(IncrementalAlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: kind,
            resource_name: name.clone(),
        });
    }
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

/// What one change of a setting comes to. Kafka's operations: 0 sets, 1 resets, 2 and 3 add to
/// and take from a list. The one list there is has one legal value.
fn operation(name: &str, operation: i8, value: Option<String>) -> Result<Change, Refusal> {
    let missing = || {
        let message = format!("`{name}` is given no value");
        Refusal::new(ErrorCode::InvalidConfig, message)
    };
    match operation {
        0 => Ok((name.to_owned(), Some(value.ok_or_else(missing)?))),
        1 => Ok((name.to_owned(), None)),
        2 if name == "cleanup.policy" => Ok((name.to_owned(), Some(value.ok_or_else(missing)?))),
        3 if name == "cleanup.policy" => {
            let message = "cleanup.policy cannot be empty".to_owned();
            Err(Refusal::new(ErrorCode::InvalidConfig, message))
        }
        2 | 3 => {
            let message = format!("`{name}` is no list to add to or take from");
            Err(Refusal::new(ErrorCode::InvalidConfig, message))
        }
        _ => {
            let message = format!("there is no operation {operation}");
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// The changes that leave a topic with these settings of its own and no others.
fn replacing(shard: &Shard, topic: &str, wanted: Vec<Change>) -> Vec<Change> {
    let cluster = shard.topics().cluster();
    let present = cluster.topic_named(topic).into_iter();
    let present = present.flat_map(|topic| &topic.overrides);
    let gone = present.filter(|entry| wanted.iter().all(|(name, _)| *name != entry.name));
    let gone: Vec<Change> = gone.map(|entry| (entry.name.clone(), None)).collect();
    gone.into_iter().chain(wanted).collect()
}

/// A request that alters several resources.
struct Alteration<'a> {
    shard: &'a Shard,
    validate_only: bool,
    doubles: HashSet<(i8, String)>,
}

impl<'a> Alteration<'a> {
    fn new(shard: &'a Shard, validate_only: bool) -> Self {
        Self {
            shard,
            validate_only,
            doubles: HashSet::new(),
        }
    }

    fn forbid_doubles<'r>(&mut self, resources: impl Iterator<Item = (i8, &'r str)>) {
        let doubles = doubles(resources).into_iter();
        self.doubles = doubles
            .map(|(kind, name)| (kind, name.to_owned()))
            .collect();
    }

    /// Alters one resource, and says what became of it.
    async fn of(
        &self,
        kind: i8,
        name: &str,
        changes: Result<Vec<Change>, Refusal>,
    ) -> (i16, Option<String>) {
        let result = match changes {
            _ if self.doubles.contains(&(kind, name.to_owned())) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "the resource stands in the request twice",
            )),
            Ok(changes) => self.apply(kind, name, changes).await,
            Err(refusal) => Err(refusal),
        };
        told(result)
    }

    async fn apply(&self, kind: i8, name: &str, changes: Vec<Change>) -> Result<(), Refusal> {
        match ResourceType::from_i8(kind)? {
            ResourceType::Topic => {}
            ResourceType::Broker => {
                if !name.is_empty() {
                    check_broker(self.shard, name)?;
                }
                // None of them was ever set here: Kafka's tools take back what they may have set.
                if changes.iter().all(|(_, value)| value.is_none()) {
                    return Ok(());
                }
                let message = "the broker's settings come from its configuration; change them there and restart it";
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
            ResourceType::BrokerLogger | ResourceType::ClientMetrics | ResourceType::Group => {
                let message = "only topics have settings that can be changed";
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        }
        let changes = self.without_needless(changes);
        self.check(&changes)?;
        let request = ClusterRequest::AlterTopicConfigs {
            name: name.to_owned(),
            changes,
        };
        change(self.shard, request, self.validate_only).await
    }

    /// The changes but for the resets of settings that no topic can have, which there is nothing of to
    /// reset: as Kafka takes them.
    fn without_needless(&self, mut changes: Vec<Change>) -> Vec<Change> {
        let known = self.shard.topics().defaults().entries();
        let is_known = |name: &str| known.iter().any(|(known, _)| *known == name);
        changes.retain(|(name, value)| value.is_some() || is_known(name));
        changes
    }

    fn check(&self, changes: &[Change]) -> Result<(), Refusal> {
        let set = changes.iter();
        let set: Vec<(String, String)> = set
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect();
        TopicSettings::resolve(self.shard.topics().defaults(), &set)
            .map(drop)
            .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn operations_set_reset_and_know_their_one_list() {
        let value = || Some("delete".to_owned());
        assert_eq!(
            operation("retention.ms", 0, Some("5".to_owned())).unwrap(),
            ("retention.ms".to_owned(), Some("5".to_owned()))
        );
        assert_eq!(
            operation("retention.ms", 1, None).unwrap(),
            ("retention.ms".to_owned(), None)
        );
        assert_eq!(operation("cleanup.policy", 2, value()).unwrap().1, value());
        for (name, number, value, code) in [
            ("retention.ms", 0, None, ErrorCode::InvalidConfig),
            ("retention.ms", 2, value(), ErrorCode::InvalidConfig),
            ("cleanup.policy", 3, value(), ErrorCode::InvalidConfig),
            ("retention.ms", 7, value(), ErrorCode::InvalidRequest),
        ] {
            assert_eq!(operation(name, number, value).unwrap_err().code, code);
        }
    }
}
