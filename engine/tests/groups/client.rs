//! A Kafka client that does one thing at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use millrace_kafka::{
    ApiKey, ApiVersionsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol,
    JoinGroupResponse, LeaveGroupRequest, MemberIdentity, MetadataRequest, MetadataRequestTopic,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, PartitionProduceData,
    ProduceRequest, Request, RequestHeader, Response, SyncGroupRequest, SyncGroupRequestAssignment,
    TopicProduceData, decode_response, encode_request_contiguous,
};
use millrace_model::{BatchBuilder, BatchSpec, ErrorCode, Timestamp};

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub(crate) struct Kafka {
    stream: TcpStream,
    correlation_id: i32,
    /// Of the last answer.
    answered: i32,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Kafka {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> Result<Self, Gone> {
        let stream = TcpStream::connect(address).map_err(|_| Gone)?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok(Self {
            stream,
            correlation_id: 0,
            answered: 0,
        })
    }

    /// Asks in this version, and unpacks the answer.
    pub(crate) fn ask(&mut self, version: i16, request: impl Into<Request>) -> Response {
        self.try_ask(version, request).unwrap()
    }

    pub(crate) fn try_ask(
        &mut self,
        version: i16,
        request: impl Into<Request>,
    ) -> Result<Response, Gone> {
        let request = request.into();
        let api = request.api();
        self.send(version, request)?;
        self.receive(api, version)
    }

    pub(crate) fn send(&mut self, version: i16, request: impl Into<Request>) -> Result<(), Gone> {
        let request = request.into();
        self.correlation_id += 1;
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: self.correlation_id,
            client_id: Some("a-client".to_owned()),
        };
        let frame = encode_request_contiguous(&header, &request).unwrap();
        self.stream.write_all(&frame).map_err(|_| Gone)
    }

    pub(crate) fn receive(&mut self, api: ApiKey, version: i16) -> Result<Response, Gone> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(|_| Gone)?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut frame).map_err(|_| Gone)?;
        let (correlation_id, response) = decode_response(api, version, frame.into()).unwrap();
        self.answered += 1;
        assert_eq!(correlation_id, self.answered, "answers come in order");
        Ok(response)
    }

    /// Makes a topic, as a consumer that asks for it does.
    pub(crate) fn make_topic(&mut self, name: &str) {
        let topic = MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let Response::Metadata(response) = self.ask(9, request) else {
            panic!("another answer");
        };
        assert_eq!(response.topics[0].error_code, 0);
    }

    /// Produces a batch of so many records.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, records: u32) {
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            let appended = builder.append(None, Some(b"value"), [], Timestamp::NONE);
            appended.unwrap();
        }
        let batch = Bytes::from(builder.build(&BatchSpec::default()).unwrap());
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch),
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let Response::Produce(response) = self.ask(9, request) else {
            panic!("another answer");
        };
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }

    /// Commits offsets of one topic from outside of the group; the codes, in order.
    pub(crate) fn try_commit(
        &mut self,
        group: &str,
        topic: &str,
        offsets: &[(i32, i64)],
        metadata: &str,
    ) -> Result<Vec<ErrorCode>, Gone> {
        let response = self.try_ask(9, commit(group, topic, offsets, metadata))?;
        let Response::OffsetCommit(response) = response else {
            panic!("another answer");
        };
        let partitions = &response.topics[0].partitions;
        let code = |at: usize| ErrorCode::from_i16(partitions[at].error_code);
        Ok((0..partitions.len()).map(code).collect())
    }

    pub(crate) fn commit(&mut self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let codes = self.try_commit(group, topic, offsets, "").unwrap();
        assert!(
            codes.iter().all(|code| *code == ErrorCode::None),
            "{codes:?}"
        );
    }

    /// The committed offsets of these partitions, -1 where there is none.
    pub(crate) fn committed(&mut self, group: &str, topic: &str, partitions: &[i32]) -> Vec<i64> {
        let topics = vec![OffsetFetchRequestTopics {
            name: topic.to_owned(),
            partition_indexes: partitions.to_vec(),
        }];
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group.to_owned(),
                topics: Some(topics),
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequest::default()
        };
        let Response::OffsetFetch(response) = self.ask(8, request) else {
            panic!("another answer");
        };
        let group = &response.groups[0];
        assert_eq!(group.error_code, 0);
        let of_topic = &group.topics[0].partitions;
        let offset = |partition: &i32| {
            let mut found = of_topic.iter().filter(|p| p.partition_index == *partition);
            found.next().unwrap().committed_offset
        };
        partitions.iter().map(offset).collect()
    }

    /// Joins with the member id that the broker gives, and waits until the generation is complete.
    pub(crate) fn join(&mut self, group: &str, member: &str) -> JoinGroupResponse {
        let response = self.join_once(group, member);
        match ErrorCode::from_i16(response.error_code) {
            ErrorCode::MemberIdRequired => self.join_once(group, &response.member_id),
            _ => response,
        }
    }

    fn join_once(&mut self, group: &str, member: &str) -> JoinGroupResponse {
        match self.ask(7, join(group, member)) {
            Response::JoinGroup(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Syncs; the leader gives each member its own id as assignment.
    pub(crate) fn sync(
        &mut self,
        group: &str,
        joined: &JoinGroupResponse,
    ) -> Result<Bytes, ErrorCode> {
        let members = joined.members.iter();
        let request = SyncGroupRequest {
            group_id: group.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: joined.protocol_name.clone(),
            assignments: members
                .map(|member| SyncGroupRequestAssignment {
                    member_id: member.member_id.clone(),
                    assignment: member.member_id.clone().into(),
                })
                .collect(),
            ..SyncGroupRequest::default()
        };
        match self.ask(5, request) {
            Response::SyncGroup(response) if response.error_code == 0 => Ok(response.assignment),
            Response::SyncGroup(response) => Err(ErrorCode::from_i16(response.error_code)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn heartbeat(&mut self, group: &str, joined: &JoinGroupResponse) -> ErrorCode {
        self.send_heartbeat(group, joined);
        self.receive_heartbeat()
    }

    pub(crate) fn send_heartbeat(&mut self, group: &str, joined: &JoinGroupResponse) {
        let request = HeartbeatRequest {
            group_id: group.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
        };
        self.send(4, request).unwrap();
    }

    pub(crate) fn receive_heartbeat(&mut self) -> ErrorCode {
        match self.receive(ApiKey::Heartbeat, 4).unwrap() {
            Response::Heartbeat(response) => ErrorCode::from_i16(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the answer to a heartbeat, which is that all is well, comes in this time.
    pub(crate) fn answers_heartbeat_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let answer = self.receive(ApiKey::Heartbeat, 4);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match answer {
            Ok(Response::Heartbeat(response)) => {
                assert_eq!(response.error_code, 0);
                true
            }
            Ok(other) => panic!("{other:?}"),
            Err(Gone) => false,
        }
    }

    /// Says of itself which software it is.
    pub(crate) fn introduce(&mut self, software: &str) {
        let request = ApiVersionsRequest {
            client_software_name: software.to_owned(),
            client_software_version: "4.0.0".to_owned(),
        };
        match self.ask(3, request) {
            Response::ApiVersions(response) => assert_eq!(response.error_code, 0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(&mut self, group: &str, member: &str) -> ErrorCode {
        self.send_leave(group, member);
        self.receive_leave()
    }

    pub(crate) fn send_leave(&mut self, group: &str, member: &str) {
        let request = LeaveGroupRequest {
            group_id: group.to_owned(),
            members: vec![MemberIdentity {
                member_id: member.to_owned(),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        self.send(5, request).unwrap();
    }

    pub(crate) fn receive_leave(&mut self) -> ErrorCode {
        match self.receive(ApiKey::LeaveGroup, 5).unwrap() {
            Response::LeaveGroup(response) => {
                assert_eq!(response.error_code, 0);
                ErrorCode::from_i16(response.members[0].error_code)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn join(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"metadata"),
        }],
        ..JoinGroupRequest::default()
    }
}

pub(crate) fn commit(
    group: &str,
    topic: &str,
    offsets: &[(i32, i64)],
    metadata: &str,
) -> OffsetCommitRequest {
    let partitions = offsets.iter();
    let partitions = partitions.map(|(partition, offset)| OffsetCommitRequestPartition {
        partition_index: *partition,
        committed_offset: *offset,
        committed_metadata: Some(metadata.to_owned()),
        ..OffsetCommitRequestPartition::default()
    });
    OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: partitions.collect(),
        }],
        ..OffsetCommitRequest::default()
    }
}
