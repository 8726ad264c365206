//! Kafka's error codes, by Kafka's names and numbers.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $kafka:literal, $retriable:literal;)*) => {
        /// What went wrong, as a client sees it: Kafka's name and number.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ErrorCode {
            /// The code of this number. Numbers of later versions read as
            /// [`ErrorCode::UnknownServerError`].
            #[must_use]
            pub const fn from_i16(code: i16) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::UnknownServerError,
                }
            }

            /// Kafka's name, for example `NOT_LEADER_OR_FOLLOWER`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $kafka,)* }
            }

            /// Whether the same request may succeed later without any change.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self { $(Self::$name => $retriable,)* }
            }
        }
    };
}

codes! {
    /// A fault of the broker that no other code describes.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false;
    /// Success.
    None = 0, "NONE", false;
    /// The offset is below the log start offset or above the end.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false;
    /// A checksum, length or count in the data does not hold.
    CorruptMessage = 2, "CORRUPT_MESSAGE", true;
    /// No such topic or partition.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true;
    /// A fetch asks for a size that is not a legal one.
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", false;
    /// The partition has no leader for the moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true;
    /// This broker does not lead the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// The answer did not come in time.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// The broker is not available.
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", false;
    /// The replica is not available on this broker.
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", true;
    /// A batch is over `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// The metadata of a committed offset is over `offset.metadata.max.bytes`.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The coordinator replays its log.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true;
    /// The coordinator cannot serve for the moment.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true;
    /// Another broker coordinates this group.
    NotCoordinator = 16, "NOT_COORDINATOR", true;
    /// The topic's name is not a legal one.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false;
    /// A batch is over the segment's size.
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", false;
    /// Fewer in-sync replicas than `min.insync.replicas`.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true;
    /// Written, but the in-sync replicas became too few before it was on all of them.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true;
    /// `acks` is none of 0, 1 and all.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false;
    /// The group has another generation.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false;
    /// The member's protocols do not fit with those of the group.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false;
    /// The group's name is not a legal one.
    InvalidGroupId = 24, "INVALID_GROUP_ID", false;
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The session timeout is out of the broker's bounds.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", false;
    /// The group rebalances: join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false;
    /// The committed offsets do not fit in one batch of the log.
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", false;
    /// Not allowed on this topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", false;
    /// Not allowed on this group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", false;
    /// Not allowed on this cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", false;
    /// A timestamp is out of the topic's bounds.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false;
    /// The mechanism of authentication is not served.
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", false;
    /// The request does not fit in the state of authentication.
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", false;
    /// The request's version is not served.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false;
    /// A topic of that name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// The number of partitions is out of range.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// The replication factor is out of range.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// The replicas asked for are not possible.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", false;
    /// A setting is unknown or its value is not a legal one.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// This broker is not the controller.
    NotController = 41, "NOT_CONTROLLER", true;
    /// The request contradicts itself or the state.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// The format of messages does not support the request.
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false;
    /// Against the broker's policy.
    PolicyViolation = 44, "POLICY_VIOLATION", false;
    /// A gap in an idempotent producer's sequence.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A batch older than the producer's last five.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// A producer of an older epoch than the last seen.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The transaction is in another state.
    InvalidTxnState = 48, "INVALID_TXN_STATE", false;
    /// The producer id does not belong to the transactional id.
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", false;
    /// The transaction's timeout is over the broker's bound.
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", false;
    /// Another operation on the same transaction is under way.
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", true;
    /// The client may not use this transactional id.
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false;
    /// Authorization is not switched on.
    SecurityDisabled = 54, "SECURITY_DISABLED", false;
    /// Not tried, because another part of the request failed.
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", false;
    /// The partition's storage failed; it is read-only until the broker restarts.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true;
    /// No such directory of logs.
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", false;
    /// The credentials are refused.
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", false;
    /// Nothing is known of this producer id.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The partition's replicas are being moved.
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", false;
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// No such fetch session: begin a new one.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", true;
    /// The fetch session is at another epoch: begin a new one.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", true;
    /// The leader has no listener of this name.
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", true;
    /// Topics cannot be deleted here.
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", false;
    /// The leader epoch is older than the broker's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The compression type is not served.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false;
    /// The broker's epoch has moved on.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false;
    /// A new leader does not know its high watermark yet.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true;
    /// Join again with the member id that comes with this.
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", false;
    /// The preferred leader is not available.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", true;
    /// The group has as many members as it may have.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// Another member has taken this static identity.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// No replica may become leader.
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true;
    /// The leader is already the one asked for.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", true;
    /// The partition's replicas are not being moved.
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", false;
    /// A member of the group subscribes to the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false;
    /// The batch itself is refused: wrong count, timestamps, flags or key.
    InvalidRecord = 87, "INVALID_RECORD", false;
    /// A transaction that is open may move this offset.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true;
    /// A limit of the broker is reached for the moment; slow down and repeat.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true;
    /// A newer producer has taken the transactional id.
    ProducerFenced = 90, "PRODUCER_FENCED", false;
    /// No such resource.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", false;
    /// The request names a resource twice.
    DuplicateResource = 92, "DUPLICATE_RESOURCE", false;
    /// The credential is below what the broker requires.
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", false;
    /// The feature's version is not possible.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false;
    /// The feature could not be changed.
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", false;
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// A broker with this number is registered and alive.
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", false;
    /// No broker with this number is registered.
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", false;
    /// The topic's id in the request is not the log's.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", true;
    /// The broker belongs to another cluster.
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", false;
    /// No such transactional id.
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", false;
    /// The fetch session knows topics by names, the request by ids, or the other way round.
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", true;
    /// A replica that is fenced, going away or of an earlier life cannot be in sync.
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false;
    /// The change was made and gave the partition another leader.
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", false;
    /// The offset is in remote storage.
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", false;
    /// The member's epoch is not the coordinator's: give all up and join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// The static identity belongs to a member that has not left.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// The broker does not have this assignor.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch has moved on: take it from the next heartbeat and repeat.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false;
    /// The request is for the other kind of endpoint.
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", false;
    /// The kind of endpoint is unknown.
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", false;
    /// No such subscription of telemetry.
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", false;
    /// The telemetry is over the broker's bound.
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", false;
    /// The transaction must be aborted.
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", false;
    /// The regular expression is not a legal one.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false;
    /// The client's metadata is stale: start from the bootstrap servers.
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", false;
    /// The broker has as many share sessions as it may have.
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", true;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
