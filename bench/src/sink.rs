//! A Kafka broker that keeps nothing: it acknowledges every batch at once, and answers fetches
//! with the last batch it was sent, over and over. What a client reaches against it is the
//! client's own limit on this machine. It can hold answers back for a known time.
//!
//! Not here: groups, timestamps, any check of what is sent. Memory is one batch a partition.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use millrace_kafka::{
    ApiKey, ApiVersion, ApiVersionsResponse, CreatableTopicResult, CreateTopicsResponse,
    DeletableTopicResult, DeleteTopicsResponse, FetchRequest, FetchResponse,
    FetchableTopicResponse, InitProducerIdResponse, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MetadataRequest,
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    PartitionData, PartitionProduceResponse, ProduceRequest, ProduceResponse, RecordSet, Request,
    RequestError, Response, TopicProduceResponse, decode_request, encode_response,
};
use millrace_model::batch::BatchHeader;
use millrace_model::{ErrorCode, TopicId};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::KafkaError;
use crate::kafka::{Frames, Rope};
use crate::options::Stall;

/// What is served, in the versions of the codec that name topics by their names.
const SERVED: [(ApiKey, i16); 8] = [
    (ApiKey::Produce, 12),
    (ApiKey::Fetch, 12),
    (ApiKey::ListOffsets, ApiKey::ListOffsets.max_version()),
    (ApiKey::Metadata, ApiKey::Metadata.max_version()),
    (ApiKey::ApiVersions, ApiKey::ApiVersions.max_version()),
    (ApiKey::CreateTopics, ApiKey::CreateTopics.max_version()),
    (ApiKey::DeleteTopics, 5),
    (ApiKey::InitProducerId, ApiKey::InitProducerId.max_version()),
];

/// The only broker.
const NODE: i32 = 1;

/// Bytes of a batch's base offset, the only ones that differ between two deliveries of it.
const OFFSET_LEN: usize = 8;

/// How long the sink holds answers to batches back. With this the bench is checked against itself:
/// what it measures must be what was planted here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// Each of them.
    pub each: Duration,
    /// Nothing is answered in this time, which counts from the first batch.
    pub stall: Option<Stall>,
}

/// Serves until the process ends.
///
/// # Errors
/// Connections can no longer be accepted.
pub async fn serve(listener: TcpListener, delays: Delays) -> std::io::Result<()> {
    let sink = Arc::new(Sink {
        address: listener.local_addr()?,
        topics: Mutex::default(),
        delays,
        first_batch: OnceLock::new(),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let sink = Arc::clone(&sink);
        tokio::spawn(async move {
            // A client that fails, or leaves, is no matter of the others.
            let _ = sink.converse(stream).await;
        });
    }
}

struct Sink {
    address: SocketAddr,
    topics: Mutex<HashMap<String, Vec<Partition>>>,
    delays: Delays,
    first_batch: OnceLock<Instant>,
}

/// What is left of a partition's records.
#[derive(Clone, Default)]
struct Partition {
    end: i64,
    last: Option<(Bytes, i64)>,
}

impl Sink {
    async fn converse(&self, mut stream: TcpStream) -> Result<(), KafkaError> {
        let failed = |error| KafkaError::Connection {
            address: "a client".to_owned(),
            error,
        };
        stream.set_nodelay(true).map_err(failed)?;
        let mut frames = Frames::default();
        loop {
            let frame = frames.next(&mut stream, "a client").await?;
            let (version, correlation, answer) = match decode_request(frame) {
                Ok((header, Request::ApiVersions(_))) => {
                    let answer = offered(ErrorCode::None).into();
                    (header.version, header.correlation_id, answer)
                }
                Ok((header, request)) => match self.answer(request).await {
                    Some(answer) => (header.version, header.correlation_id, answer),
                    None => continue,
                },
                Err(RequestError::UnsupportedVersion {
                    api: ApiKey::ApiVersions,
                    correlation_id,
                    ..
                }) => {
                    let answer = offered(ErrorCode::UnsupportedVersion).into();
                    (0, correlation_id, answer)
                }
                Err(_) => return Err(KafkaError::Protocol("a request that is not served")),
            };
            let mut rope = Rope::from(encode_response(version, correlation, &answer)?);
            stream.write_all_buf(&mut rope).await.map_err(failed)?;
        }
    }

    /// The answer, if the request wants one.
    async fn answer(&self, request: Request) -> Option<Response> {
        Some(match request {
            Request::Produce(request) => {
                let answered = request.acks != 0;
                self.delay().await;
                let answer = self.produce(request);
                return answered.then(|| answer.into());
            }
            Request::Fetch(request) => {
                let answer = self.fetch(&request);
                if answer.1 == 0 {
                    let wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                answer.0.into()
            }
            Request::ListOffsets(request) => self.list_offsets(request).into(),
            Request::Metadata(request) => self.metadata(request).into(),
            Request::CreateTopics(request) => {
                let topics = request.topics.into_iter().map(|topic| {
                    self.make(&topic.name, topic.num_partitions);
                    CreatableTopicResult {
                        topic_id: id(&topic.name),
                        name: topic.name,
                        ..CreatableTopicResult::default()
                    }
                });
                CreateTopicsResponse {
                    topics: topics.collect(),
                    ..CreateTopicsResponse::default()
                }
                .into()
            }
            Request::DeleteTopics(request) => {
                let gone = request.topic_names.into_iter().map(|name| {
                    self.topics(|topics| topics.remove(&name));
                    DeletableTopicResult {
                        name: Some(name),
                        ..DeletableTopicResult::default()
                    }
                });
                DeleteTopicsResponse {
                    responses: gone.collect(),
                    ..DeleteTopicsResponse::default()
                }
                .into()
            }
            Request::InitProducerId(_) => InitProducerIdResponse {
                producer_id: i64::from(fastrand::u32(..)),
                ..InitProducerIdResponse::default()
            }
            .into(),
            _ => return None,
        })
    }

    /// Holds a batch back. Those behind it on the same connection wait too.
    async fn delay(&self) {
        let first = *self.first_batch.get_or_init(Instant::now);
        tokio::time::sleep(self.delays.each).await;
        if let Some(stall) = self.delays.stall {
            let (begin, end) = (first + stall.after, first + stall.after + stall.length);
            if Instant::now() >= begin {
                tokio::time::sleep_until(end.into()).await;
            }
        }
    }

    fn produce(&self, request: ProduceRequest) -> ProduceResponse {
        let topics = request.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|data| {
                let batch = data.records.unwrap_or_default();
                let appended = self.append(&topic.name, data.index, batch);
                PartitionProduceResponse {
                    index: data.index,
                    error_code: match appended {
                        Some(_) => ErrorCode::None as i16,
                        None => ErrorCode::UnknownTopicOrPartition as i16,
                    },
                    base_offset: appended.unwrap_or(-1),
                    ..PartitionProduceResponse::default()
                }
            });
            TopicProduceResponse {
                partition_responses: partitions.collect(),
                name: topic.name,
                ..TopicProduceResponse::default()
            }
        });
        ProduceResponse {
            responses: topics.collect(),
            ..ProduceResponse::default()
        }
    }

    /// The offset that the batch would have.
    fn append(&self, topic: &str, partition: i32, batch: Bytes) -> Option<i64> {
        let count = i64::from(BatchHeader::parse(&batch).ok()?.record_count);
        self.partition(topic, partition, |partition| {
            let base = partition.end;
            partition.end += count;
            partition.last = Some((batch, count));
            base
        })
    }

    /// The answer, and the bytes of records in it.
    fn fetch(&self, request: &FetchRequest) -> (FetchResponse, usize) {
        let mut bytes = 0;
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let found = self.partition(&topic.topic, asked.partition, |of| of.clone());
                let known = found.is_some();
                let found = found.unwrap_or_default();
                let room = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
                let records = found.since(asked.fetch_offset, room);
                bytes += records.len();
                PartitionData {
                    partition_index: asked.partition,
                    error_code: match known {
                        true => ErrorCode::None as i16,
                        false => ErrorCode::UnknownTopicOrPartition as i16,
                    },
                    high_watermark: found.end,
                    last_stable_offset: found.end,
                    log_start_offset: 0,
                    records,
                    ..PartitionData::default()
                }
            });
            FetchableTopicResponse {
                partitions: partitions.collect(),
                topic: topic.topic.clone(),
                ..FetchableTopicResponse::default()
            }
        });
        let answer = FetchResponse {
            responses: topics.collect(),
            ..FetchResponse::default()
        };
        (answer, bytes)
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let index = asked.partition_index;
                let end = self.partition(&topic.name, index, |of| of.end);
                ListOffsetsPartitionResponse {
                    partition_index: index,
                    error_code: match end {
                        Some(_) => ErrorCode::None as i16,
                        None => ErrorCode::UnknownTopicOrPartition as i16,
                    },
                    // -2 asks for the start, everything else for the end.
                    offset: if asked.timestamp == -2 {
                        0
                    } else {
                        end.unwrap_or(-1)
                    },
                    ..ListOffsetsPartitionResponse::default()
                }
            });
            ListOffsetsTopicResponse {
                partitions: partitions.collect(),
                name: topic.name,
            }
        });
        ListOffsetsResponse {
            topics: topics.collect(),
            ..ListOffsetsResponse::default()
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let asked = request.topics.into_iter().flatten();
        let topics = asked.filter_map(|topic| topic.name).map(|name| {
            let count = self.topics(|topics| topics.get(&name).map(Vec::len));
            let partitions =
                (0..)
                    .take(count.unwrap_or(0))
                    .map(|partition_index| MetadataResponsePartition {
                        partition_index,
                        leader_id: NODE,
                        leader_epoch: 0,
                        replica_nodes: vec![NODE],
                        isr_nodes: vec![NODE],
                        ..MetadataResponsePartition::default()
                    });
            MetadataResponseTopic {
                error_code: match count {
                    Some(_) => ErrorCode::None as i16,
                    None => ErrorCode::UnknownTopicOrPartition as i16,
                },
                topic_id: id(&name),
                name: Some(name),
                partitions: partitions.collect(),
                ..MetadataResponseTopic::default()
            }
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE,
                host: self.address.ip().to_string(),
                port: i32::from(self.address.port()),
                ..MetadataResponseBroker::default()
            }],
            cluster_id: Some("sink".to_owned()),
            controller_id: NODE,
            topics: topics.collect(),
            ..MetadataResponse::default()
        }
    }

    fn make(&self, name: &str, partitions: i32) {
        let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
        let made = vec![Partition::default(); partitions];
        self.topics(|topics| topics.insert(name.to_owned(), made));
    }

    fn partition<T>(
        &self,
        topic: &str,
        partition: i32,
        of: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let index = usize::try_from(partition).ok()?;
        self.topics(|topics| topics.get_mut(topic)?.get_mut(index).map(of))
    }

    fn topics<T>(&self, of: impl FnOnce(&mut HashMap<String, Vec<Partition>>) -> T) -> T {
        // Nothing that holds the lock panics half way through a change.
        of(&mut self.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Partition {
    /// The last batch as often as it takes to get from the offset to the end, or to fill
    /// `room`; once at least.
    fn since(&self, mut offset: i64, room: usize) -> RecordSet {
        let mut records = RecordSet::default();
        let Some((batch, count)) = &self.last else {
            return records;
        };
        while offset < self.end && (records.is_empty() || records.len() + batch.len() <= room) {
            records.push(BytesMut::from(&offset.to_be_bytes()[..]).freeze());
            records.push(batch.slice(OFFSET_LEN..));
            offset += count;
        }
        records
    }
}

fn offered(error: ErrorCode) -> ApiVersionsResponse {
    let api_keys = SERVED.iter().map(|(api, max_version)| ApiVersion {
        api_key: api.key(),
        min_version: api.served().min,
        max_version: *max_version,
    });
    ApiVersionsResponse {
        error_code: error as i16,
        api_keys: api_keys.collect(),
        ..ApiVersionsResponse::default()
    }
}

/// An id that is the same whenever the topic is asked for.
fn id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    for (index, byte) in name.bytes().enumerate() {
        bytes[index % 16] ^= byte;
    }
    // All zeros would mean that there is none.
    bytes[0] |= 1;
    TopicId(bytes)
}
