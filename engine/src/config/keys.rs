//! The table of keys. Each row is a field, its type, its key, its default as text and its
//! help; the struct, the flags, the printout and the errors are all made from it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use millrace_groups::MigrationPolicy;
use millrace_model::{ClusterId, SettingError, TopicSettings};

use super::cluster::{Rack, ReplicaSelector, VoterTarget, Voters};
use super::groups::Assignors;
use super::layers::{ConfigError, Layer};
use super::value::{
    Advertised, ByteSize, Cores, DiskMode, Listener, LogFormat, OptionalPath, Period, Setting,
    Unlimited,
};

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, as in the TOML file.
    pub name: &'static str,
    /// The value when nobody sets one, as text.
    pub default: &'static str,
    /// What it does, for a person.
    pub help: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal, $default:literal;)*) => {
        /// The configuration in force. Every field is a [`Key`] of [`KEYS`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        /// Every key there is, in the order in which they are printed.
        pub const KEYS: &[Key] = &[
            $(Key { name: $name, default: $default, help: concat!($($doc),+) },)*
        ];

        impl Config {
            /// Parses the winning text of each key.
            pub(super) fn parse(layer: &Layer) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($field: {
                        let (text, source) = layer.winner($name);
                        <$type as Setting>::parse(text).map_err(|reason| ConfigError::Value {
                            key: $name,
                            text: text.to_owned(),
                            source_of_value: source.clone(),
                            reason,
                        })?
                    },)*
                })
            }

            /// Every key with its value in force, as Kafka's tools show them.
            #[must_use]
            pub fn entries(&self) -> Vec<Entry> {
                vec![$(Entry {
                    name: $name,
                    value: self.$field.text(),
                    is_default: <$type as Setting>::parse($default).as_ref() == Ok(&self.$field),
                    help: concat!($($doc),+),
                },)*]
            }
        }
    };
}

/// A key with its value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Whether that is the built-in default.
    pub is_default: bool,
    /// What it does, for a person.
    pub help: &'static str,
}

/// The broker's keys that are defaults of a topic's settings.
pub(super) const TOPIC_DEFAULTS: [(&str, &str); 12] = [
    ("log.retention.ms", "retention.ms"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.segment.bytes", "segment.bytes"),
    ("log.roll.ms", "segment.ms"),
    ("message.max.bytes", "max.message.bytes"),
    ("log.message.timestamp.type", "message.timestamp.type"),
    (
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
    ),
    (
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
    ),
    ("min.insync.replicas", "min.insync.replicas"),
    ("log.write.caching", "write.caching"),
    ("log.flush.interval.ms", "flush.ms"),
    ("log.flush.interval.bytes", "flush.bytes"),
];

/// The broker's key that is the default of a topic's setting.
pub(crate) fn topic_default_of(setting: &str) -> Option<&'static str> {
    let mut rows = TOPIC_DEFAULTS.iter();
    rows.find_map(|(key, name)| (*name == setting).then_some(*key))
}

impl Config {
    /// A key of [`TOPIC_DEFAULTS`] as the text of the topic's setting.
    fn topic_default(&self, key: &str) -> String {
        match key {
            "log.retention.ms" => self.log_retention.text(),
            "log.retention.bytes" => self.log_retention_bytes.text(),
            "log.segment.bytes" => self.log_segment_bytes.0.to_string(),
            "log.roll.ms" => self.log_roll.as_millis().to_string(),
            "message.max.bytes" => self.message_max_bytes.0.to_string(),
            "log.message.timestamp.type" => self.log_message_timestamp_type.clone(),
            "log.message.timestamp.before.max.ms" => {
                self.log_message_timestamp_before_max.to_string()
            }
            "log.message.timestamp.after.max.ms" => {
                self.log_message_timestamp_after_max.as_millis().to_string()
            }
            "min.insync.replicas" => self.min_insync_replicas.to_string(),
            "log.write.caching" => self.log_write_caching.to_string(),
            "log.flush.interval.ms" => self.log_flush_interval.as_millis().to_string(),
            "log.flush.interval.bytes" => self.log_flush_bytes.0.to_string(),
            _ => unreachable!("each row of TOPIC_DEFAULTS has an arm; a test sets them all"),
        }
    }

    /// What a topic's settings are unless the topic overrides them.
    ///
    /// # Errors
    /// The broker's key whose value a topic cannot have, and why.
    pub(super) fn resolve_topic_defaults(
        &self,
    ) -> Result<TopicSettings, (&'static str, SettingError)> {
        let mut settings = TopicSettings::default();
        for (key, setting) in TOPIC_DEFAULTS {
            settings
                .set(setting, &self.topic_default(key))
                .map_err(|error| (key, error))?;
        }
        Ok(settings)
    }

    /// What a topic's settings are unless the topic overrides them.
    #[must_use]
    pub fn topic_defaults(&self) -> TopicSettings {
        self.resolve_topic_defaults()
            .expect("they were resolved when the configuration was built")
    }
}

settings! {
    /// Directory of everything the broker stores.
    data_dir: PathBuf = "data.dir", "./data";
    /// Address of the native protocol, QUIC over UDP. Port 0 picks a free one.
    quic: SocketAddr = "quic", "0.0.0.0:9644";
    /// Address of the Kafka protocol over TCP, or none. Port 0 picks a free one.
    kafka: Listener = "kafka", "0.0.0.0:9092";
    /// Host and port that Kafka clients are told to connect to, or none for the address that each of them has reached this broker at.
    advertised_listeners: Advertised = "advertised.listeners", "none";
    /// Address of metrics and health over HTTP, or none. Local by default, for it has neither encryption nor authentication.
    http: Listener = "http", "127.0.0.1:9645";
    /// Number of shards, one per core: 1 to 255, or all the cores this process may use.
    cores: Cores = "cores", "all";
    /// Identity of this broker.
    node_id: u32 = "node.id", "0";

    /// Brokers that keep the metadata of a new cluster, with their QUIC addresses: 1@host:9644,2@host:9644,3@host:9644. A broker that joins one later names any of it. None for a broker alone.
    controller_quorum_voters: Voters = "controller.quorum.voters", "none";
    /// How many brokers shall keep the metadata: an odd number, which the cluster sees to by itself as brokers come and are decommissioned, or 0 to see to it by hand.
    controller_quorum_voter_target: VoterTarget = "controller.quorum.voter.target", "3";
    /// A broker that keeps the metadata and was silent for so long is replaced by another in that, if one stands by; 0 for never.
    controller_quorum_voter_replace: Period = "controller.quorum.voter.replace.ms", "300000";
    /// Identity of the cluster that this broker is one of, 32 hexadecimal digits; none for a broker alone, which draws one.
    cluster_id: Option<ClusterId> = "cluster.id", "none";
    /// Host and port at which peers and native clients find this broker, or none for what the voters say of it, or the address it listens on.
    advertised_quic: Advertised = "advertised.quic", "none";
    /// Rack that this broker stands in, or none. Replicas of a partition are spread over racks, and consumers may read in their own.
    broker_rack: Rack = "broker.rack", "none";
    /// Where consumers that say their rack read: `rack`, from a replica in it that is in sync, or `leader`. Kafka's names of classes are taken as well.
    replica_selector: ReplicaSelector = "replica.selector.class", "rack";
    /// A broker that the controller has not heard of for so long is fenced: others lead its partitions.
    broker_session_timeout: Period = "broker.session.timeout.ms", "900";
    /// How often a broker tells the controller that it lives. At most half of broker.session.timeout.ms.
    broker_heartbeat_interval: Period = "broker.heartbeat.interval.ms", "200";

    /// Bytes of produced frames that a shard holds at a time before it stops reading from its streams.
    shard_memory_bytes: ByteSize = "shard.memory.bytes", "128MiB";
    /// Bytes of log that a shard keeps in memory for readers of history.
    shard_cache_bytes: ByteSize = "shard.cache.bytes", "32MiB";
    /// Bytes of the newest writes that a shard keeps in memory for readers of the tail.
    shard_tail_bytes: ByteSize = "shard.tail.bytes", "32MiB";
    /// Segment files that a shard holds open at a time.
    shard_open_files: NonZeroU32 = "shard.open.files", "2048";
    /// Bytes of removed segment files that a shard keeps to overwrite, which is cheaper than growing new ones.
    shard_recycle_bytes: ByteSize = "shard.recycle.bytes", "2GiB";
    /// Time an active shard looks for work before it sleeps, and up to four times as long for what usually comes soon. An idle one sleeps whatever this is.
    shard_spin: Period = "shard.spin", "100us";
    /// Time after which a task that keeps a shard from all else is reported by name, or 0 for never.
    shard_stall: Period = "shard.stall.ms", "500";
    /// How files are written: direct (O_DIRECT), or buffered through the page cache, for development where O_DIRECT is missing.
    disk_mode: DiskMode = "disk.mode", "direct";

    /// Connections of the whole broker. More are refused.
    max_connections: NonZeroU32 = "max.connections", "10000";
    /// A connection on which nothing arrives for this long is closed, over QUIC after 60s at most: its clients say that they are there.
    connections_max_idle: Period = "connections.max.idle.ms", "10m";
    /// Largest request of the Kafka protocol. A connection that announces a larger one is closed.
    socket_request_max_bytes: ByteSize = "socket.request.max.bytes", "100MiB";
    /// Longest time that a clean shutdown waits for requests in flight.
    shutdown_timeout: Period = "shutdown.timeout.ms", "10s";
    /// PEM file of the certificate chain, or none for a self-signed one made on first start.
    tls_certificate: OptionalPath = "tls.certificate.file", "none";
    /// PEM file of the certificate's private key.
    tls_key: OptionalPath = "tls.key.file", "none";
    /// PEM file of the authority that signs the certificates of a cluster's brokers, by which they know each other.
    tls_ca: OptionalPath = "tls.ca.file", "none";

    /// Partitions of a topic that is created without a number.
    num_partitions: NonZeroU32 = "num.partitions", "1";
    /// Replicas of a topic that is created without a number.
    default_replication_factor: NonZeroU32 = "default.replication.factor", "1";
    /// Whether a topic that a Kafka client asks for and that does not exist is created.
    auto_create_topics: bool = "auto.create.topics.enable", "true";
    /// Default of retention.ms: age at which segments are removed, or -1.
    log_retention: Unlimited<Period> = "log.retention.ms", "7d";
    /// Default of retention.bytes: size of a partition above which its oldest segments are removed, or -1.
    log_retention_bytes: Unlimited<ByteSize> = "log.retention.bytes", "-1";
    /// Default of segment.bytes: size at which a segment is sealed.
    log_segment_bytes: ByteSize = "log.segment.bytes", "128MiB";
    /// Default of segment.ms: age at which a segment is sealed.
    log_roll: Period = "log.roll.ms", "7d";
    /// Default of max.message.bytes: largest record batch.
    message_max_bytes: ByteSize = "message.max.bytes", "1048588";
    /// Default of message.timestamp.type: CreateTime (the producer's) or LogAppendTime (the broker's).
    log_message_timestamp_type: String = "log.message.timestamp.type", "CreateTime";
    /// Default of message.timestamp.before.max.ms: how far behind the broker's clock a record may be.
    log_message_timestamp_before_max: u64 = "log.message.timestamp.before.max.ms", "9223372036854775807";
    /// Default of message.timestamp.after.max.ms: how far ahead of the broker's clock a record may be.
    log_message_timestamp_after_max: Period = "log.message.timestamp.after.max.ms", "1h";
    /// Default of min.insync.replicas: how many replicas must be in sync for an append with acks=all.
    min_insync_replicas: u32 = "min.insync.replicas", "1";
    /// Default of write.caching: acknowledge from memory, before the device has the data.
    log_write_caching: bool = "log.write.caching", "false";
    /// Default of flush.ms: with write.caching, the longest time that acknowledged data is not durable.
    log_flush_interval: Period = "log.flush.interval.ms", "100";
    /// Default of flush.bytes: with write.caching, the most acknowledged data that is not durable.
    log_flush_bytes: ByteSize = "log.flush.interval.bytes", "256KiB";
    /// How often a shard looks for segments that retention removes.
    log_retention_check: Period = "log.retention.check.interval.ms", "5m";

    /// A replica that has not caught up with its leader for so long is no longer in sync.
    replica_lag_time_max: Period = "replica.lag.time.max.ms", "30s";
    /// Whether a replica out of sync may lead where no other is left, which loses what it does not have.
    unclean_leader_election: bool = "unclean.leader.election.enable", "false";
    /// Bytes a second that a shard pulls for replicas that are far behind, or -1.
    replica_catch_up_bytes: Unlimited<ByteSize> = "replica.catch.up.bytes.per.second", "-1";
    /// Whether leaders move back by themselves to the replica that is to lead, which keeps brokers balanced.
    auto_leader_rebalance: bool = "auto.leader.rebalance.enable", "true";

    /// Replicas of the topic that keeps consumer groups, when it is made: at most as many as there are brokers.
    offsets_topic_replication_factor: NonZeroU32 = "offsets.topic.replication.factor", "3";
    /// Partitions of the topic that keeps consumer groups, when it is made. Each is a coordinator.
    offsets_topic_num_partitions: NonZeroU32 = "offsets.topic.num.partitions", "50";
    /// Segment size of the topic that keeps consumer groups. Small, for it is read when groups are loaded.
    offsets_topic_segment_bytes: ByteSize = "offsets.topic.segment.bytes", "16MiB";
    /// Minutes for which the offsets of a group without members are kept.
    offsets_retention_minutes: NonZeroU32 = "offsets.retention.minutes", "10080";
    /// Longest text that a client may commit with an offset.
    offset_metadata_max_bytes: ByteSize = "offset.metadata.max.bytes", "4096";
    /// Shortest session timeout that a member of a classic group may ask for.
    group_min_session_timeout: Period = "group.min.session.timeout.ms", "6s";
    /// Longest session timeout that a member of a classic group may ask for.
    group_max_session_timeout: Period = "group.max.session.timeout.ms", "30m";
    /// How long a classic group without members waits for more of them after the first has come.
    group_initial_rebalance_delay: Period = "group.initial.rebalance.delay.ms", "100";
    /// How long the answer to a heartbeat of a classic member waits, so that the member hears of a rebalance at once; 0: not
    /// at all. Only for clients that are known to read on meanwhile, and for a part of the session.
    group_heartbeat_hold_max: Period = "group.heartbeat.hold.max.ms", "5s";
    /// Members of a classic group.
    group_max_size: NonZeroU32 = "group.max.size", "10000";
    /// Session timeout of members of the broker-driven protocol (KIP-848).
    group_consumer_session_timeout: Period = "group.consumer.session.timeout.ms", "45s";
    /// Heartbeat interval that members of the broker-driven protocol are told.
    group_consumer_heartbeat_interval: Period = "group.consumer.heartbeat.interval.ms", "2s";
    /// Members of a group of the broker-driven protocol.
    group_consumer_max_size: NonZeroU32 = "group.consumer.max.size", "10000";
    /// Assignors of the broker-driven protocol: uniform, range. The first is the default.
    group_consumer_assignors: Assignors = "group.consumer.assignors", "uniform,range";
    /// Between which protocols a group with members may move: bidirectional, upgrade, downgrade, disabled.
    group_consumer_migration_policy: MigrationPolicy = "group.consumer.migration.policy", "bidirectional";

    /// What is logged: error, warn, info, debug, trace, or directives as in RUST_LOG, which wins over this default.
    log_level: String = "log.level", "info";
    /// Shape of the log on standard error: text or json.
    log_format: LogFormat = "log.format", "text";
}
