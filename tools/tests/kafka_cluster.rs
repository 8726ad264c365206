//! Three real brokers in three racks, as Kafka's clients and the native one meet them: reading from
//! followers, and the requests by which a cluster is run.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../engine/tests/kafka/client.rs"]
#[allow(dead_code, reason = "shared with the tests of one broker")]
mod client;
#[path = "support/kafka_cluster.rs"]
mod rig;
mod support;

use millrace_kafka::*;
use millrace_model::ErrorCode;
use rig::{Cluster, eventually};

const TOPIC: &str = "orders";

/// A version with a rack, and the last without.
const WITH_RACK: i16 = 12;
const WITHOUT_RACK: i16 = 10;

fn fetch(cluster: &Cluster, broker: usize, version: i16, rack: &str, offset: i64) -> PartitionData {
    let wanted = FetchRequest {
        max_wait_ms: 100,
        ..client::fetch_request(TOPIC, [(0, offset)])
    };
    fetch_with(cluster, broker, version, rack, wanted)
}

fn fetch_with(
    cluster: &Cluster,
    broker: usize,
    version: i16,
    rack: &str,
    wanted: FetchRequest,
) -> PartitionData {
    let wanted = FetchRequest {
        rack_id: rack.to_owned(),
        ..wanted
    };
    let mut fetched = client::fetched(cluster.connect(broker).ask(version, wanted));
    fetched.responses.remove(0).partitions.remove(0)
}

fn is(data: &PartitionData, code: ErrorCode) {
    assert_eq!(ErrorCode::from_i16(data.error_code), code, "{data:?}");
}

#[test]
fn consumers_read_from_a_follower_in_their_rack() {
    let cluster = Cluster::start();
    cluster.create(TOPIC, &[1, 2, 3]);
    for value in ["a", "b", "c"] {
        cluster
            .connect(1)
            .produce(TOPIC, 0, client::batch(&[value]));
    }

    // The leader sends who says where it is, and can be sent elsewhere.
    let sent = fetch(&cluster, 1, WITH_RACK, "rack-2", 0);
    is(&sent, ErrorCode::None);
    assert_eq!((sent.preferred_read_replica, sent.records.len()), (2, 0));
    for (version, rack) in [
        (WITH_RACK, ""),
        (WITH_RACK, "rack-1"),
        (WITH_RACK, "rack-9"),
        (WITHOUT_RACK, "rack-2"),
    ] {
        let served = fetch(&cluster, 1, version, rack, 0);
        is(&served, ErrorCode::None);
        assert_eq!(served.preferred_read_replica, -1, "{version} {rack}");
        assert_eq!(client::records(&served), client::from(0, &["a", "b", "c"]));
    }

    // The follower serves what it knows to be committed, and no more.
    let served = eventually("the follower's high watermark", || {
        let served = fetch(&cluster, 2, WITH_RACK, "rack-2", 0);
        is(&served, ErrorCode::None);
        (served.high_watermark == 3).then_some(served)
    });
    assert_eq!(client::records(&served), client::from(0, &["a", "b", "c"]));
    is(
        &fetch(&cluster, 2, WITH_RACK, "rack-2", 4),
        ErrorCode::OffsetNotAvailable,
    );
    is(
        &fetch(&cluster, 1, WITH_RACK, "rack-1", 4),
        ErrorCode::OffsetOutOfRange,
    );
    is(
        &fetch(&cluster, 2, WITHOUT_RACK, "", 0),
        ErrorCode::NotLeaderOrFollower,
    );
    let mut later = client::fetch_request(TOPIC, [(0, 0)]);
    later.topics[0].partitions[0].current_leader_epoch = 1_000;
    let later = fetch_with(&cluster, 2, WITH_RACK, "rack-2", later);
    is(&later, ErrorCode::UnknownLeaderEpoch);

    // A fetch that waits at the follower ends when its high watermark rises.
    let waiting = client::fetch_request(TOPIC, [(0, 3)]);
    std::thread::scope(|threads| {
        let waiting =
            threads.spawn(|| fetch_with(&cluster, 2, WITH_RACK, "rack-2", waiting.clone()));
        cluster.connect(1).produce(TOPIC, 0, client::batch(&["d"]));
        let woken = waiting.join().unwrap();
        assert_eq!(client::records(&woken), client::from(3, &["d"]));
    });
    assert!(cluster.metric(2, "millrace_consumed_records_as_follower_total") >= 4);
    assert_eq!(
        cluster.metric(1, "millrace_consumed_records_as_follower_total"),
        0
    );

    // One that has fallen behind serves nobody, and nobody is sent to it.
    cluster.signal(3, "-STOP");
    eventually("a stopped broker out of sync", || {
        (cluster.partition(1, TOPIC).isr_nodes == [1, 2]).then_some(())
    });
    cluster.signal(3, "-CONT");
    let kept = fetch(&cluster, 1, WITH_RACK, "rack-9", 0);
    assert_eq!(client::records(&kept).len(), 4);
    eventually("the follower back in its rack", || {
        let sent = fetch(&cluster, 1, WITH_RACK, "rack-3", 0);
        (sent.preferred_read_replica == 3).then_some(())
    });
    cluster.signal(3, "-KILL");
    eventually("the leader serving the rack of a dead broker", || {
        let served = fetch(&cluster, 1, WITH_RACK, "rack-3", 0);
        (served.preferred_read_replica == -1 && !served.records.is_empty()).then_some(())
    });
    let dead = cluster.partition(1, TOPIC);
    assert_eq!(
        (dead.replica_nodes, dead.isr_nodes, dead.offline_replicas),
        (vec![1, 2, 3], vec![1, 2], vec![3])
    );
}

#[test]
fn the_native_consumer_reads_in_its_rack_and_falls_back() {
    let cluster = Cluster::start();
    cluster.create(TOPIC, &[1, 2, 3]);
    let produce = |value: &str| {
        cluster
            .connect(1)
            .produce(TOPIC, 0, client::batch(&[value]));
    };
    produce("a");
    let mut consumer = cluster.consume(&[TOPIC, "--rack", "rack-2", "--follow", "--count", "3"]);
    assert_eq!(consumer.line(), "a");
    produce("b");
    assert_eq!(consumer.line(), "b");
    assert_eq!(
        cluster.metric(2, "millrace_consumed_records_as_follower_total"),
        2
    );
    cluster.signal(2, "-KILL");
    eventually("a dead broker out of sync", || {
        (cluster.partition(1, TOPIC).isr_nodes == [1, 3]).then_some(())
    });
    produce("c");
    assert_eq!(consumer.line(), "c");
}

/// What became of one partition of a request to move it.
fn reassign(
    cluster: &Cluster,
    topic: &str,
    replicas: Option<&[i32]>,
    may_resize: bool,
) -> ErrorCode {
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: may_resize,
        topics: vec![ReassignableTopic {
            name: topic.to_owned(),
            partitions: vec![ReassignablePartition {
                partition_index: 0,
                replicas: replicas.map(<[i32]>::to_vec),
            }],
        }],
        ..Default::default()
    };
    let Response::AlterPartitionReassignments(told) = cluster.connect(2).ask(1, request) else {
        panic!("another response");
    };
    assert_eq!(told.error_code, 0);
    ErrorCode::from_i16(told.responses[0].partitions[0].error_code)
}

fn reassigning(cluster: &Cluster) -> Vec<OngoingTopicReassignment> {
    let all = ListPartitionReassignmentsRequest::default();
    let Response::ListPartitionReassignments(told) = cluster.connect(1).ask(0, all) else {
        panic!("another response");
    };
    assert_eq!(told.error_code, 0);
    told.topics
}

/// Codes of the partitions that are told of.
fn elect(cluster: &Cluster, kind: i8, topics: Option<&[(&str, i32)]>) -> Vec<ErrorCode> {
    let topic = |(topic, partition): &(&str, i32)| ElectLeadersTopicPartitions {
        topic: (*topic).to_owned(),
        partitions: vec![*partition],
    };
    let request = ElectLeadersRequest {
        election_type: kind,
        topic_partitions: topics.map(|topics| topics.iter().map(topic).collect()),
        ..Default::default()
    };
    let Response::ElectLeaders(told) = cluster.connect(3).ask(2, request) else {
        panic!("another response");
    };
    assert_eq!(told.error_code, 0);
    let results = told.replica_election_results.iter();
    let results = results.flat_map(|topic| &topic.partition_result);
    results
        .map(|result| ErrorCode::from_i16(result.error_code))
        .collect()
}

fn unregister(cluster: &Cluster, broker_id: i32) -> ErrorCode {
    let request = UnregisterBrokerRequest { broker_id };
    let Response::UnregisterBroker(told) = cluster.connect(1).ask(0, request) else {
        panic!("another response");
    };
    ErrorCode::from_i16(told.error_code)
}

#[test]
fn a_cluster_is_run_by_kafkas_requests() {
    let cluster = Cluster::start();
    cluster.create(TOPIC, &[1, 2, 3]);

    // Another order of the same brokers is there at once; the leader stays until it is elected.
    assert_eq!(
        reassign(&cluster, TOPIC, Some(&[2, 1]), false),
        ErrorCode::InvalidReplicationFactor
    );
    for impossible in [&[2, 9][..], &[], &[1, 1], &[-1]] {
        let refused = reassign(&cluster, TOPIC, Some(impossible), true);
        assert_eq!(
            refused,
            ErrorCode::InvalidReplicaAssignment,
            "{impossible:?}"
        );
    }
    assert_eq!(
        reassign(&cluster, TOPIC, None, true),
        ErrorCode::NoReassignmentInProgress
    );
    assert_eq!(
        reassign(&cluster, "none", None, true),
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        reassign(&cluster, TOPIC, Some(&[2, 1, 3]), false),
        ErrorCode::None
    );
    let elected = elect(&cluster, 0, Some(&[(TOPIC, 0)]));
    // The balance of leaders may have been faster.
    assert!(
        [[ErrorCode::None], [ErrorCode::ElectionNotNeeded]].contains(&elected.try_into().unwrap())
    );
    eventually("the preferred leader", || {
        (cluster.partition(1, TOPIC).leader_id == 2).then_some(())
    });
    let again = elect(&cluster, 0, Some(&[(TOPIC, 0), (TOPIC, 7), ("none", 0)]));
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(again, [ErrorCode::ElectionNotNeeded, unknown, unknown]);
    assert_eq!(elect(&cluster, 0, None), []);
    assert_eq!(
        elect(&cluster, 1, Some(&[(TOPIC, 0)])),
        [ErrorCode::ElectionNotNeeded]
    );

    quorum(&cluster);
    features(&cluster);

    // A move to a broker that is dead goes on until it is called back.
    assert_eq!(
        reassign(&cluster, TOPIC, Some(&[2, 1]), true),
        ErrorCode::None
    );
    eventually("the end of a move", || {
        reassigning(&cluster).is_empty().then_some(())
    });
    assert_eq!(cluster.partition(3, TOPIC).replica_nodes, [2, 1]);
    assert_eq!(unregister(&cluster, 3), ErrorCode::InvalidRequest);
    assert_eq!(unregister(&cluster, 9), ErrorCode::BrokerIdNotRegistered);
    cluster.signal(3, "-KILL");
    eventually("a dead broker fenced", || {
        cluster.is_fenced(3).then_some(())
    });
    assert_eq!(
        reassign(&cluster, TOPIC, Some(&[2, 3]), true),
        ErrorCode::None
    );
    let moving = reassigning(&cluster);
    let [moving] = &moving[0].partitions[..] else {
        panic!("{moving:?}");
    };
    assert_eq!(
        (&moving.adding_replicas[..], &moving.removing_replicas[..]),
        (&[3][..], &[1][..])
    );
    assert_eq!(
        unregister(&cluster, 3),
        ErrorCode::InvalidRequest,
        "it is a replica"
    );
    assert_eq!(reassign(&cluster, TOPIC, None, true), ErrorCode::None);
    assert_eq!(reassigning(&cluster), []);
    assert_eq!(unregister(&cluster, 3), ErrorCode::None);
    eventually("a broker that is gone", || {
        let known = cluster.brokers_known(1, true);
        (known
            .iter()
            .map(|broker| broker.broker_id)
            .collect::<Vec<_>>()
            == [1, 2])
        .then_some(())
    });
}

/// Every broker tells of the quorum as its leader sees it.
fn quorum(cluster: &Cluster) {
    let ask = |broker, topic: &str| {
        let request = DescribeQuorumRequest {
            topics: vec![DescribeQuorumTopic {
                topic_name: topic.to_owned(),
                partitions: vec![DescribeQuorumPartition { partition_index: 0 }],
            }],
        };
        let Response::DescribeQuorum(told) = cluster.connect(broker).ask(2, request) else {
            panic!("another response");
        };
        assert_eq!(told.error_code, 0, "{told:?}");
        told
    };
    let told: Vec<_> = (1..=3)
        .map(|broker| ask(broker, "__cluster_metadata"))
        .collect();
    for told in &told {
        let partition = &told.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let voters: Vec<i32> = partition
            .current_voters
            .iter()
            .map(|voter| voter.replica_id)
            .collect();
        assert_eq!((voters, partition.observers.len()), (vec![1, 2, 3], 0));
        let leader = partition
            .current_voters
            .iter()
            .find(|voter| voter.replica_id == partition.leader_id);
        let leader = leader.unwrap();
        assert!(partition.high_watermark > 0 && leader.log_end_offset >= partition.high_watermark);
        assert!(leader.last_caught_up_timestamp > 0);
        let first = &told.nodes[0].listeners;
        assert!(
            first
                .iter()
                .any(|listener| i32::from(listener.port) == cluster.kafka_port(1))
        );
    }
    let leaders = told
        .iter()
        .map(|told| told.topics[0].partitions[0].leader_id);
    let mut leaders: Vec<i32> = leaders.collect();
    leaders.dedup();
    assert_eq!(leaders.len(), 1, "no election meanwhile: {leaders:?}");
    let other = ask(1, TOPIC);
    let code = other.topics[0].partitions[0].error_code;
    assert_eq!(
        ErrorCode::from_i16(code),
        ErrorCode::UnknownTopicOrPartition
    );
}

fn features(cluster: &Cluster) {
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
    };
    let Response::ApiVersions(told) = cluster.connect(1).ask(4, request) else {
        panic!("another response");
    };
    let level = told.finalized_features[0].max_version_level;
    assert_eq!(
        told.finalized_features[0].name,
        told.supported_features[0].name
    );
    assert!(told.finalized_features_epoch > 0 && level >= 1);
    let update = |version, feature: &str, max_version_level| {
        let request = UpdateFeaturesRequest {
            feature_updates: vec![FeatureUpdateKey {
                feature: feature.to_owned(),
                max_version_level,
                ..Default::default()
            }],
            ..Default::default()
        };
        let Response::UpdateFeatures(told) = cluster.connect(2).ask(version, request) else {
            panic!("another response");
        };
        let each = told
            .results
            .first()
            .map(|result| ErrorCode::from_i16(result.error_code));
        (ErrorCode::from_i16(told.error_code), each)
    };
    let own = &told.supported_features[0].name;
    assert_eq!(
        update(1, own, level),
        (ErrorCode::None, Some(ErrorCode::None))
    );
    assert_eq!(update(2, own, level), (ErrorCode::None, None));
    assert_eq!(update(2, own, 99), (ErrorCode::FeatureUpdateFailed, None));
    let unknown = Some(ErrorCode::InvalidUpdateVersion);
    assert_eq!(
        update(1, "metadata.version", 20),
        (ErrorCode::None, unknown)
    );
}
