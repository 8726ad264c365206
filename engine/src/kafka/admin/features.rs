//! UpdateFeatures, and what ApiVersions tells of features.
//!
//! There is one, the feature level of the cluster. It has a name of Millrace's own: Kafka's names, such
//! as `metadata.version`, promise at each level what Kafka's brokers do there, and clients act on
//! some of them.

use std::rc::Rc;

use millrace_kafka::{
    ApiVersionsResponse, FeatureUpdateKey, FinalizedFeatureKey, SupportedFeatureKey,
    UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use millrace_model::ErrorCode;
use millrace_replication::Refusal;
use millrace_replication::cluster::{Cluster, Command, FEATURE_LEVELS};

use super::told;
use crate::kafka::context::RequestContext;
use crate::shard::Shard;

/// The feature level, as Kafka's tools know it.
pub(in crate::kafka) const FEATURE: &str = "millrace.version";

/// The first version whose response has no result for each feature.
const FIRST_WITHOUT_RESULTS: i16 = 2;

/// Adds to the answer to ApiVersions what this broker and its cluster can do.
pub(in crate::kafka) fn with_features(
    cluster: &Cluster,
    response: ApiVersionsResponse,
) -> ApiVersionsResponse {
    let finalized = FinalizedFeatureKey {
        name: FEATURE.to_owned(),
        max_version_level: level(cluster.feature_level()),
        min_version_level: level(cluster.feature_level()),
    };
    let is_founded = cluster.id().is_some();
    ApiVersionsResponse {
        supported_features: vec![SupportedFeatureKey {
            name: FEATURE.to_owned(),
            min_version: level(FEATURE_LEVELS.least),
            max_version: level(FEATURE_LEVELS.most),
        }],
        finalized_features_epoch: match is_founded {
            true => i64::try_from(cluster.applied().0).unwrap_or(i64::MAX),
            false => -1,
        },
        finalized_features: is_founded.then_some(finalized).into_iter().collect(),
        ..response
    }
}

fn level(level: u16) -> i16 {
    i16::try_from(level).unwrap_or(i16::MAX)
}

/// Answers UpdateFeatures: all that is asked for, or nothing.
pub(in crate::kafka) async fn update_features(
    shard: &Rc<Shard>,
    context: &RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let mut results: Vec<Result<(), Refusal>> = {
        let cluster = shard.topics().cluster();
        let updates = request.feature_updates.iter();
        updates
            .map(|update| wanted_level(&cluster, update).map(drop))
            .collect()
    };
    let is_legal = results.iter().all(Result::is_ok);
    if is_legal && !request.validate_only {
        for (update, result) in request.feature_updates.iter().zip(&mut results) {
            *result = set(shard, update).await;
        }
    }
    let failed = results.iter().find_map(|result| result.as_ref().err());
    // Later versions have no other place for it.
    let top = failed.filter(|_| context.version >= FIRST_WITHOUT_RESULTS);
    let (error_code, error_message) = told(top.cloned().map_or(Ok(()), Err));
    let results = request.feature_updates.into_iter().zip(results);
    let results = results.map(|(update, result)| {
        let (error_code, error_message) = told(result);
        UpdatableFeatureResult {
            feature: update.feature,
            error_code,
            error_message,
        }
    });
    UpdateFeaturesResponse {
        error_code,
        error_message,
        results: results.collect(),
        ..UpdateFeaturesResponse::default()
    }
}

async fn set(shard: &Shard, update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let level = wanted_level(&shard.topics().cluster(), update)?;
    let command = Command::SetFeatureLevel { level };
    shard.controller().propose(command).await.map(drop)
}

/// The level that is asked for, if the cluster could work at it.
fn wanted_level(cluster: &Cluster, update: &FeatureUpdateKey) -> Result<u16, Refusal> {
    if update.feature != FEATURE {
        let message = format!(
            "`{}` is no feature of this cluster; there is `{FEATURE}`",
            update.feature
        );
        return Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message));
    }
    let level = u16::try_from(update.max_version_level).ok();
    let level = level.filter(|level| *level > 0).ok_or_else(|| {
        let message = format!("`{FEATURE}` cannot be taken back");
        Refusal::new(ErrorCode::InvalidUpdateVersion, message)
    })?;
    cluster.check_feature_level(level)?;
    Ok(level)
}

#[cfg(test)]
mod tests {
    use millrace_model::ClusterId;
    use millrace_replication::quorum::Index;

    use super::*;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let found = Command::Found {
            cluster: ClusterId([1; 16]),
            level: 2,
        };
        cluster
            .apply(Index(3), &found)
            .expect("the first command founds");
        cluster
    }

    #[test]
    fn only_the_own_feature_is_known_and_it_only_grows() {
        let wanted = |feature: &str, max_version_level| {
            let update = FeatureUpdateKey {
                feature: feature.to_owned(),
                max_version_level,
                ..FeatureUpdateKey::default()
            };
            wanted_level(&cluster(), &update).map_err(|refusal| refusal.code)
        };
        assert_eq!(wanted(FEATURE, 3), Ok(3));
        assert_eq!(wanted(FEATURE, 1), Err(ErrorCode::FeatureUpdateFailed));
        assert_eq!(wanted(FEATURE, 0), Err(ErrorCode::InvalidUpdateVersion));
        let kafkas = wanted("metadata.version", 25);
        assert_eq!(kafkas, Err(ErrorCode::InvalidUpdateVersion));
    }

    #[test]
    fn nothing_is_finalized_before_the_cluster_is_founded() {
        let told = with_features(&Cluster::default(), ApiVersionsResponse::default());
        assert_eq!(told.finalized_features_epoch, -1);
        assert!(told.finalized_features.is_empty());
        let told = with_features(&cluster(), ApiVersionsResponse::default());
        assert_eq!(told.finalized_features_epoch, 3);
        assert_eq!(told.finalized_features[0].max_version_level, 2);
    }
}
