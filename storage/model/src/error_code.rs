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
    /// This broker does not lead the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// The answer did not come in time.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// A batch is over `max.message.bytes`.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// The words that a commit carries are over `offset.metadata.max.bytes`.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The group's coordinator still reads its log.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true;
    /// The group has no coordinator at the moment.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true;
    /// This broker does not coordinate the group.
    NotCoordinator = 16, "NOT_COORDINATOR", true;
    /// The topic's name is not a legal one.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false;
    /// Fewer in-sync replicas than `min.insync.replicas`.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true;
    /// `acks` is none of 0, 1 and all.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", false;
    /// The generation is not the group's present one.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", false;
    /// The member's protocol is not one that the group has.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", false;
    /// The group's id is not a legal one.
    InvalidGroupId = 24, "INVALID_GROUP_ID", false;
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The group rebalances; join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", false;
    /// A timestamp is out of the topic's bounds.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", false;
    /// The request's version is not served.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", false;
    /// A topic of that name exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// The number of partitions is out of range.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// The replication factor is out of range.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// A setting is unknown or its value is not a legal one.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// The request contradicts itself or the state.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// A gap in an idempotent producer's sequence.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A batch older than the producer's last five.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// A producer of an older epoch than the last seen.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The partition's storage failed; it is read-only until the broker restarts.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", true;
    /// Nothing is known of this producer id.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// The leader epoch is older than the broker's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The compression type is not served.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", false;
    /// The group has as many members as it may have.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// Another member has this static member's id.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// Members of the group subscribe to the topic.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", false;
    /// The batch itself is refused: wrong count, timestamps, flags or key.
    InvalidRecord = 87, "INVALID_RECORD", false;
    /// A transaction may still move the offset.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", true;
    /// A limit of the broker is reached for the moment; slow down and repeat.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", true;
    /// No topic has this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// The member's epoch was fenced; give up everything and join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// A living member has this static member's id.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// The broker has no assignor of this name.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch is older than the broker's; the next heartbeat brings the present one.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", false;
    /// The regular expression cannot be read.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
