//! The table of what is counted: each row a name, a unit and a sentence, from which the
//! Prometheus text is made.

/// What a value counts, as OpenMetrics names units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things; written without a unit.
    Count,
    /// Bytes.
    Bytes,
}

macro_rules! table {
    ($(#[$doc:meta])* $kind:ident { $($help:literal $name:ident = $text:literal, $unit:ident;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind {
            $(#[doc = $help] $name,)*
        }

        impl $kind {
            /// Every one, in the order of their values.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in the text format, without prefix, unit and `_total`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it counts.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }

            /// Its unit.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self { $(Self::$name => Unit::$unit,)* }
            }
        }
    };
}

table! {
    /// What only grows.
    Counter {
        "Bytes of frames that producers sent." BytesIn = "produced", Bytes;
        "Batches that were appended." BatchesIn = "produced_batches", Count;
        "Records that were appended." RecordsIn = "produced_records", Count;
        "Bytes of frames handed to consumers." BytesOut = "consumed", Bytes;
        "Batches handed to consumers." BatchesOut = "consumed_batches", Count;
        "Records handed to consumers." RecordsOut = "consumed_records", Count;
        "Records handed to consumers by this broker as a follower." FollowerRecordsOut = "consumed_records_as_follower", Count;
        "Batches recognised as sent before and acknowledged again." Duplicates = "duplicate_batches", Count;
        "Acknowledgements sent." Acks = "acks", Count;
        "Writes of acknowledgements, each of one or more." AckWrites = "ack_writes", Count;
        "Writes to the device." DeviceWrites = "device_writes", Count;
        "Bytes written to the device." DeviceWriteBytes = "device_write", Bytes;
        "Reads from the device." DeviceReads = "device_reads", Count;
        "Bytes read from the device." DeviceReadBytes = "device_read", Bytes;
        "Reads answered from memory." CacheHits = "cache_hits", Count;
        "Reads that had to wait for the device." CacheMisses = "cache_misses", Count;
        "Connections accepted." ConnectionsOpened = "connections_opened", Count;
        "Connections refused, at a limit or in the handshake." ConnectionsRefused = "connections_refused", Count;
        "Connections of the Kafka protocol accepted." KafkaConnectionsOpened = "kafka_connections_opened", Count;
        "Connections of the Kafka protocol closed at a limit, or for bytes that are no request." KafkaConnectionsRefused = "kafka_connections_refused", Count;
        "Bytes that Kafka clients sent." KafkaBytesIn = "kafka_received", Bytes;
        "Bytes sent to Kafka clients." KafkaBytesOut = "kafka_sent", Bytes;
        "Partitions of Kafka requests that this shard owned." KafkaPartitionsOwned = "kafka_partitions_owned", Count;
        "Partitions of Kafka requests that another shard owned." KafkaPartitionsForeign = "kafka_partitions_foreign", Count;
        "Streams that arrived on the shard that owns the partition." StreamsOwned = "streams_owned", Count;
        "Streams that arrived on another shard." StreamsForeign = "streams_foreign", Count;
        "Datagrams that arrived." Datagrams = "datagrams", Count;
        "Datagrams passed on to the shard of their connection." DatagramsForwarded = "datagrams_forwarded", Count;
        "Datagrams that are no QUIC, or that the shard of their connection had no room for." DatagramsIgnored = "datagrams_ignored", Count;
        "Messages sent to other shards." MeshMessages = "mesh_messages", Count;
        "Times a task kept the shard from all else for longer than shard.stall.ms." Stalls = "stalls", Count;
        "Microseconds that the shard's thread ran." CpuMicros = "cpu_microseconds", Count;
        "Microseconds in which tasks ran. The rest of the thread's time it looked for work." TaskMicros = "task_microseconds", Count;
        "Control requests answered." Requests = "requests", Count;
        "Control requests answered with an error." RequestErrors = "request_errors", Count;
        "Times a stream waited for memory." BudgetWaits = "memory_waits", Count;
        "Segments removed by retention." SegmentsRemoved = "segments_removed", Count;
        "Times a coordinator of groups was made from its log." GroupLoads = "group_loads", Count;
        "Records that coordinators of groups were made from." GroupRecordsReplayed = "group_records_replayed", Count;
        "Times the state of groups was written anew so that its log stays short." GroupCheckpoints = "group_checkpoints", Count;
        "Times groups could not be written, so that their members had to start over." GroupWriteFailures = "group_write_failures", Count;
        "Generations of classic groups that all members have joined." GroupRebalances = "group_rebalances", Count;
    }
}

table! {
    /// What rises and falls.
    Gauge {
        "Open connections." Connections = "connections", Count;
        "Open connections of the Kafka protocol." KafkaConnections = "kafka_connections", Count;
        "Open produce streams." ProduceStreams = "produce_streams", Count;
        "Open consume streams." ConsumeStreams = "consume_streams", Count;
        "Memory in use by frames on their way in." BudgetUsed = "memory_used", Bytes;
        "Memory that frames on their way in may use." BudgetLimit = "memory_limit", Bytes;
        "Streams that wait for memory." BudgetWaiters = "memory_waiters", Count;
        "Batches that are appended and wait for the device, or for other brokers." DeviceQueue = "device_queue", Count;
        "Partitions of this shard." Partitions = "partitions", Count;
        "Partitions whose log is open." OpenPartitions = "open_partitions", Count;
        "Partitions that a failed write made read-only." LatchedPartitions = "latched_partitions", Count;
        "Open segment files." OpenFiles = "open_files", Count;
        "Segments of open logs." Segments = "segments", Count;
        "Log on the device, of open logs." LogBytes = "log", Bytes;
        "Memory in use by the tails of logs." TailBytes = "tail", Bytes;
        "Memory in use by the read cache." CacheBytes = "cache", Bytes;
        "Messages that wait in the queue from other shards." MeshQueued = "mesh_queued", Count;
    }
}
