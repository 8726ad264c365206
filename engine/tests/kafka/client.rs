//! A client that does what it is told, over a plain socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use millrace_kafka::{
    ApiKey, FetchPartition, FetchRequest, FetchResponse, FetchTopic, MetadataRequest,
    MetadataRequestTopic, MetadataResponse, MetadataResponseTopic, PartitionData,
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, Request,
    RequestHeader, Response, TopicProduceData, decode_response, encode_request_contiguous,
};
use millrace_model::{
    BatchBuilder, BatchSpec, Compression, Decompressor, Header, LogId, PartitionId, ProducerStamp,
    RecordBatch, Timestamp, TopicId,
};

/// Longer than anything here takes: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The versions that the helpers speak.
pub(crate) const PRODUCE: i16 = 9;
pub(crate) const FETCH: i16 = 12;

pub(crate) struct Kafka {
    stream: TcpStream,
    next_id: i32,
}

impl Kafka {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next_id: 7 }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn frame(&mut self, version: i16, request: &Request) -> (i32, Bytes) {
        let correlation_id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id,
            client_id: Some("test".to_owned()),
        };
        let frame = encode_request_contiguous(&header, request).unwrap();
        (correlation_id, frame)
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send(&mut self, version: i16, request: impl Into<Request>) -> i32 {
        let (correlation_id, frame) = self.frame(version, &request.into());
        self.stream.write_all(&frame).unwrap();
        correlation_id
    }

    /// The bytes of the next response.
    pub(crate) fn receive_frame(&mut self) -> std::io::Result<Bytes> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(len)).unwrap()];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub(crate) fn receive(&mut self, api: ApiKey, version: i16) -> (i32, Response) {
        let frame = self.receive_frame().unwrap();
        decode_response(api, version, frame).unwrap()
    }

    pub(crate) fn ask(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let request = request.into();
        let api = request.api();
        let sent = self.send(version, request);
        let (received, response) = self.receive(api, version);
        assert_eq!(sent, received);
        response
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// The topic, which is created with one partition if it does not exist.
    pub(crate) fn topic(&mut self, name: &str) -> MetadataResponseTopic {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let MetadataResponse { mut topics, .. } = metadata(self.ask(12, request));
        topics.remove(0)
    }

    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> i64 {
        let response = self.ask(
            PRODUCE,
            produce_request(-1, topic, [(partition, Some(batch))]),
        );
        let stored = only(response);
        assert_eq!(stored.error_code, 0, "{:?}", stored.error_message);
        stored.base_offset
    }

    /// The records of a partition from an offset on, as far as one response has them.
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        let mut response = fetched(self.ask(FETCH, fetch_request(topic, [(partition, offset)])));
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(crate) fn metadata(response: Response) -> MetadataResponse {
    match response {
        Response::Metadata(response) => response,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn produced(response: Response) -> ProduceResponse {
    match response {
        Response::Produce(response) => response,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn fetched(response: Response) -> FetchResponse {
    match response {
        Response::Fetch(response) => response,
        other => panic!("{other:?}"),
    }
}

/// What became of the only partition of a Produce request.
pub(crate) fn only(response: Response) -> PartitionProduceResponse {
    let mut response = produced(response);
    assert_eq!(response.responses.len(), 1);
    let mut topic = response.responses.remove(0);
    assert_eq!(topic.partition_responses.len(), 1);
    topic.partition_responses.remove(0)
}

pub(crate) fn produce_request(
    acks: i16,
    topic: &str,
    batches: impl IntoIterator<Item = (i32, Option<Bytes>)>,
) -> ProduceRequest {
    let partition = |(index, records)| PartitionProduceData { index, records };
    ProduceRequest {
        acks,
        timeout_ms: 20_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: batches.into_iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    partitions: impl IntoIterator<Item = (i32, i64)>,
) -> FetchRequest {
    let partition = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 20_000,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: partitions.into_iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The timestamp of the first record of every batch: old ones would be removed by retention.
pub(crate) fn base_time() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_millis()).unwrap()
    })
}

/// A record batch with these values, a millisecond apart from [`base_time`] on.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    batch_with(values, &BatchSpec::default())
}

pub(crate) fn compressed(values: &[&str], compression: Compression) -> Bytes {
    let spec = BatchSpec {
        compression,
        ..BatchSpec::default()
    };
    batch_with(values, &spec)
}

pub(crate) fn stamped(values: &[&str], stamp: ProducerStamp) -> Bytes {
    let spec = BatchSpec {
        producer: Some(stamp),
        ..BatchSpec::default()
    };
    batch_with(values, &spec)
}

fn batch_with(values: &[&str], spec: &BatchSpec) -> Bytes {
    let log = LogId {
        topic: TopicId([1; 16]),
        partition: PartitionId(0),
    };
    let mut builder = BatchBuilder::new();
    for (at, value) in (0..).zip(values) {
        let none: [Header<'_>; 0] = [];
        let timestamp = Timestamp(base_time() + at);
        builder
            .append(None, Some(value.as_bytes()), none, timestamp)
            .unwrap();
    }
    let mut frame = BytesMut::new();
    builder.build_frame(log, spec, &mut frame).unwrap();
    let len = u32::from_le_bytes(frame[12..16].try_into().unwrap()) as usize;
    frame.freeze().slice(64..64 + len)
}

/// Offsets and values of the records in a response, each batch checked.
pub(crate) fn records(data: &PartitionData) -> Vec<(u64, String)> {
    let bytes = data.records.clone().into_bytes();
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    let mut scratch = Decompressor::new();
    while !rest.is_empty() {
        let len =
            12 + usize::try_from(i32::from_be_bytes(rest[8..12].try_into().unwrap())).unwrap();
        let batch = RecordBatch::check(&rest[..len]).unwrap();
        for record in batch.records(&mut scratch, 1 << 24).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            records.push((record.offset.0, value));
        }
        rest = &rest[len..];
    }
    records
}

/// [`records`] as they are expected: values from an offset on.
pub(crate) fn from(offset: u64, values: &[&str]) -> Vec<(u64, String)> {
    let values = values.iter().map(|value| (*value).to_owned());
    (offset..).zip(values).collect()
}
