//! The APIs: their keys, the versions of each, and the messages that belong to them.

use crate::field::Field;
use crate::messages::*;
use crate::reader::{DecodeError, Reader};
use crate::sample::Sampler;
use crate::table::{read_first, read_whole};
use crate::writer::{EncodeError, Writer};

/// The versions of an API that a broker of this codec offers, as ApiVersions lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersionRange {
    /// The API.
    pub api: ApiKey,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

/// Never: for an API whose messages have no flexible version.
const NEVER: i16 = i16::MAX;

/// Turns the table of the APIs into the types over all of them.
macro_rules! apis {
    ($($name:ident = $key:literal, $request:ident, $response:ident, $min:literal..=$max:literal, flexible $flexible:expr;)*) => {
        /// An API, by the key that stands for it in a request.
        #[allow(missing_docs, reason = "the names are the documentation, in the words of the protocol")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every API, in the order of the keys.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API of a key, if it is one of these.
            #[must_use]
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The number in a request.
            #[must_use]
            pub const fn key(self) -> i16 {
                self as i16
            }

            /// The name in Kafka's documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The lowest version that can be decoded and encoded.
            #[must_use]
            pub const fn min_version(self) -> i16 {
                match self {
                    $(Self::$name => $min,)*
                }
            }

            /// The highest version that can be decoded and encoded.
            #[must_use]
            pub const fn max_version(self) -> i16 {
                match self {
                    $(Self::$name => $max,)*
                }
            }

            /// The first version with compact lengths and tagged fields.
            #[must_use]
            pub const fn flexible_since(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }

        /// A request of any API.
        #[allow(missing_docs, reason = "the names are the documentation, in the words of the protocol")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $($name($request),)*
        }

        /// A response of any API.
        #[allow(missing_docs, reason = "the names are the documentation, in the words of the protocol")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $($name($response),)*
        }

        impl Request {
            /// The API that this is a request of.
            #[must_use]
            pub fn api(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            pub(crate) fn read(api: ApiKey, r: Reader) -> Result<Self, DecodeError> {
                match api {
                    $(ApiKey::$name => read_first(r).map(Self::$name),)*
                }
            }

            pub(crate) fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(message) => message.write(w),)*
                }
            }

            pub(crate) fn sample(api: ApiKey, s: &mut Sampler<'_>) -> Self {
                match api {
                    $(ApiKey::$name => Self::$name(Field::sample(s)),)*
                }
            }
        }

        impl Response {
            /// The API that this is a response of.
            #[must_use]
            pub fn api(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            pub(crate) fn read(api: ApiKey, r: Reader) -> Result<Self, DecodeError> {
                match api {
                    $(ApiKey::$name => read_whole(r).map(Self::$name),)*
                }
            }

            pub(crate) fn write(&self, w: &mut Writer) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(message) => message.write(w),)*
                }
            }

            pub(crate) fn sample(api: ApiKey, s: &mut Sampler<'_>) -> Self {
                match api {
                    $(ApiKey::$name => Self::$name(Field::sample(s)),)*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(message: $request) -> Self {
                    Self::$name(message)
                }
            }

            impl From<$response> for Response {
                fn from(message: $response) -> Self {
                    Self::$name(message)
                }
            }
        )*

        /// What a broker of this codec offers, as ApiVersions lists it.
        pub const SERVED: &[ApiVersionRange] = &[$(ApiKey::$name.served()),*];
    };
}

apis! {
    Produce = 0, ProduceRequest, ProduceResponse, 3..=13, flexible 9;
    Fetch = 1, FetchRequest, FetchResponse, 4..=18, flexible 12;
    ListOffsets = 2, ListOffsetsRequest, ListOffsetsResponse, 1..=10, flexible 6;
    Metadata = 3, MetadataRequest, MetadataResponse, 0..=13, flexible 9;
    OffsetCommit = 8, OffsetCommitRequest, OffsetCommitResponse, 2..=9, flexible 8;
    OffsetFetch = 9, OffsetFetchRequest, OffsetFetchResponse, 1..=9, flexible 6;
    FindCoordinator = 10, FindCoordinatorRequest, FindCoordinatorResponse, 0..=6, flexible 3;
    JoinGroup = 11, JoinGroupRequest, JoinGroupResponse, 0..=9, flexible 6;
    Heartbeat = 12, HeartbeatRequest, HeartbeatResponse, 0..=4, flexible 4;
    LeaveGroup = 13, LeaveGroupRequest, LeaveGroupResponse, 0..=5, flexible 4;
    SyncGroup = 14, SyncGroupRequest, SyncGroupResponse, 0..=5, flexible 4;
    DescribeGroups = 15, DescribeGroupsRequest, DescribeGroupsResponse, 0..=6, flexible 5;
    ListGroups = 16, ListGroupsRequest, ListGroupsResponse, 0..=5, flexible 3;
    ApiVersions = 18, ApiVersionsRequest, ApiVersionsResponse, 0..=4, flexible 3;
    CreateTopics = 19, CreateTopicsRequest, CreateTopicsResponse, 2..=7, flexible 5;
    DeleteTopics = 20, DeleteTopicsRequest, DeleteTopicsResponse, 1..=6, flexible 4;
    DeleteRecords = 21, DeleteRecordsRequest, DeleteRecordsResponse, 0..=2, flexible 2;
    InitProducerId = 22, InitProducerIdRequest, InitProducerIdResponse, 0..=5, flexible 2;
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, 2..=4, flexible 4;
    DescribeConfigs = 32, DescribeConfigsRequest, DescribeConfigsResponse, 1..=4, flexible 4;
    AlterConfigs = 33, AlterConfigsRequest, AlterConfigsResponse, 0..=2, flexible 2;
    DescribeLogDirs = 35, DescribeLogDirsRequest, DescribeLogDirsResponse, 1..=4, flexible 2;
    CreatePartitions = 37, CreatePartitionsRequest, CreatePartitionsResponse, 0..=3, flexible 2;
    DeleteGroups = 42, DeleteGroupsRequest, DeleteGroupsResponse, 0..=2, flexible 2;
    ElectLeaders = 43, ElectLeadersRequest, ElectLeadersResponse, 0..=2, flexible 2;
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, 0..=1, flexible 1;
    AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, 0..=1, flexible 0;
    ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, 0..=0, flexible 0;
    OffsetDelete = 47, OffsetDeleteRequest, OffsetDeleteResponse, 0..=0, flexible NEVER;
    DescribeQuorum = 55, DescribeQuorumRequest, DescribeQuorumResponse, 0..=2, flexible 0;
    UpdateFeatures = 57, UpdateFeaturesRequest, UpdateFeaturesResponse, 0..=2, flexible 0;
    DescribeCluster = 60, DescribeClusterRequest, DescribeClusterResponse, 0..=2, flexible 0;
    DescribeProducers = 61, DescribeProducersRequest, DescribeProducersResponse, 0..=0, flexible 0;
    UnregisterBroker = 64, UnregisterBrokerRequest, UnregisterBrokerResponse, 0..=0, flexible 0;
    ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, 0..=1, flexible 0;
    ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, 0..=1, flexible 0;
    ListConfigResources = 74, ListConfigResourcesRequest, ListConfigResourcesResponse, 0..=1, flexible 0;
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, 0..=0, flexible 0;
}

impl ApiKey {
    /// Whether a version can be decoded and encoded.
    #[must_use]
    pub const fn has_version(self, version: i16) -> bool {
        self.min_version() <= version && version <= self.max_version()
    }

    /// The versions to offer. Produce is offered from 0 on although nothing below 3 is taken:
    /// librdkafka before 2.11.1 stops compressing when a broker does not offer version 0.
    #[must_use]
    pub const fn served(self) -> ApiVersionRange {
        let min = match self {
            Self::Produce => 0,
            _ => self.min_version(),
        };
        ApiVersionRange {
            api: self,
            min,
            max: self.max_version(),
        }
    }

    pub(crate) const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_since()
    }

    /// The version of the response header: always 0 for ApiVersions, whose response must be
    /// readable before the versions are known.
    pub(crate) const fn response_header_is_flexible(self, version: i16) -> bool {
        self.is_flexible(version) && !matches!(self, Self::ApiVersions)
    }
}
