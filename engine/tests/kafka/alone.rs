//! What a broker alone answers to requests that are meant for clusters.

use millrace_kafka::{
    AlterPartitionReassignmentsRequest, DescribeQuorumPartition, DescribeQuorumRequest,
    DescribeQuorumTopic, ElectLeadersRequest, FetchRequest, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, ListPartitionReassignmentsRequest,
    ReassignablePartition, ReassignableTopic, Response, UnregisterBrokerRequest,
};
use millrace_model::ErrorCode;

use crate::client::{FETCH, Kafka, batch, fetch_request, fetched, from, records};
use crate::rig::Rig;

fn start() -> (Rig, Kafka) {
    let rig = Rig::start();
    let mut kafka = Kafka::connect(rig.broker().kafka().unwrap());
    kafka.topic("t");
    (rig, kafka)
}

#[test]
fn it_is_a_quorum_of_one() {
    let (_rig, mut kafka) = start();
    let request = DescribeQuorumRequest {
        topics: vec![DescribeQuorumTopic {
            topic_name: "__cluster_metadata".to_owned(),
            partitions: vec![DescribeQuorumPartition { partition_index: 0 }],
        }],
    };
    let Response::DescribeQuorum(told) = kafka.ask(2, request) else {
        panic!("another response");
    };
    assert_eq!(told.error_code, 0, "{told:?}");
    let partition = &told.topics[0].partitions[0];
    assert_eq!(
        (partition.current_voters.len(), partition.observers.len()),
        (1, 0)
    );
    assert_eq!(partition.current_voters[0].replica_id, partition.leader_id);
    let me = partition.leader_id;
    let Response::UnregisterBroker(told) = kafka.ask(0, UnregisterBrokerRequest { broker_id: me })
    else {
        panic!("another response");
    };
    assert_eq!(
        ErrorCode::from_i16(told.error_code),
        ErrorCode::InvalidRequest
    );
}

#[test]
fn nothing_moves_and_nobody_is_elected() {
    let (_rig, mut kafka) = start();
    let mut reassign = |replicas: Option<Vec<i32>>| {
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: "t".to_owned(),
                partitions: vec![ReassignablePartition {
                    partition_index: 0,
                    replicas,
                }],
            }],
            ..Default::default()
        };
        let Response::AlterPartitionReassignments(told) = kafka.ask(1, request) else {
            panic!("another response");
        };
        ErrorCode::from_i16(told.responses[0].partitions[0].error_code)
    };
    assert_eq!(
        reassign(Some(vec![77])),
        ErrorCode::InvalidReplicaAssignment
    );
    assert_eq!(reassign(None), ErrorCode::NoReassignmentInProgress);
    let all = ListPartitionReassignmentsRequest::default();
    let Response::ListPartitionReassignments(told) = kafka.ask(0, all) else {
        panic!("another response");
    };
    assert_eq!((told.error_code, told.topics), (0, vec![]));
    for (election_type, code) in [(0, 0), (1, 0), (7, ErrorCode::InvalidRequest as i16)] {
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: None,
            ..Default::default()
        };
        let Response::ElectLeaders(told) = kafka.ask(2, request) else {
            panic!("another response");
        };
        assert_eq!(
            (told.error_code, told.replica_election_results),
            (code, vec![])
        );
    }
}

#[test]
fn it_serves_every_rack() {
    let (_rig, mut kafka) = start();
    kafka.produce("t", 0, batch(&["a"]));
    let request = FetchRequest {
        rack_id: "somewhere".to_owned(),
        ..fetch_request("t", [(0, 0)])
    };
    let data = fetched(kafka.ask(FETCH, request))
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(data.preferred_read_replica, -1);
    assert_eq!(records(&data), from(0, &["a"]));
}

/// Kafka's tool for reassignments takes back the throttles that it may have set.
#[test]
fn what_was_never_set_can_be_taken_back() {
    let (_rig, mut kafka) = start();
    let id = kafka.topic("t").partitions[0].leader_id.to_string();
    let mut alter = |kind, name: &str, setting: &str, operation, value: Option<&str>| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: kind,
                resource_name: name.to_owned(),
                configs: vec![IncrementalAlterableConfig {
                    name: setting.to_owned(),
                    config_operation: operation,
                    value: value.map(str::to_owned),
                }],
            }],
            validate_only: false,
        };
        let Response::IncrementalAlterConfigs(told) = kafka.ask(1, request) else {
            panic!("another response");
        };
        ErrorCode::from_i16(told.responses[0].error_code)
    };
    let (topic, broker) = (2, 4);
    let (set, reset) = (0, 1);
    let on_topic = "leader.replication.throttled.replicas";
    let on_broker = "leader.replication.throttled.rate";
    assert_eq!(alter(topic, "t", on_topic, reset, None), ErrorCode::None);
    assert_eq!(alter(broker, &id, on_broker, reset, None), ErrorCode::None);
    let refused = alter(topic, "t", on_topic, set, Some("*"));
    assert_eq!(refused, ErrorCode::InvalidConfig);
    let refused = alter(broker, &id, on_broker, set, Some("1"));
    assert_eq!(refused, ErrorCode::InvalidRequest);
}
