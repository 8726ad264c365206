//! A broker of one topic in memory, which misbehaves as it is told.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]
#![allow(dead_code, reason = "shared by tests that use parts of it")]

mod group;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{Client, ConnectOptions, Trust, certificate_fingerprint};
use millrace_model::{
    BrokerId, ErrorCode, LeaderEpoch, LogId, MAX_FRAME_LEN, Offset, PartitionId, ProduceLimits,
    ProducedFrame, ProducerEpoch, ProducerId, ProducerStamp, ShardId, Timestamp, TimestampType,
    TopicId,
};
use millrace_wire::{
    Ack, ConsumeOpen, ConsumeOpened, FrameReader, Message, MessageReader, Metadata, OffsetSpec,
    PartitionLeader, PartitionState, ProduceOpen, ProduceOpened, Request, Response, StreamKind,
    Topic, WireError, encode, reset_code,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use tokio::sync::Notify;

use self::group::FakeGroup;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const MAX_MESSAGE_BYTES: u32 = 1 << 20;

/// Who leads every partition.
const LEADER: PartitionLeader = PartitionLeader {
    broker: Some(BrokerId(1)),
    epoch: LeaderEpoch(1),
};

/// What happens to the next frame that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing special.
    None,
    /// The frame is stored, its acknowledgement is lost with the connection.
    LoseAck,
    /// The connection breaks before the frame is stored.
    LoseFrame,
    /// The frame is refused.
    Refuse(ErrorCode),
    /// The stream is reset.
    Reset(ErrorCode),
    /// Nothing is ever answered on this stream again.
    Hang,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) partitions: u32,
    /// Stored frames by partition.
    pub(crate) logs: HashMap<u32, Vec<Vec<u8>>>,
    ends: HashMap<u32, u64>,
    producers: HashMap<(u32, ProducerId), i32>,
    next_producer: i64,
    pub(crate) faults: VecDeque<Fault>,
    /// Stamps in the order in which frames arrived, also of frames that were refused.
    pub(crate) stamps: Vec<Option<ProducerStamp>>,
    /// Answers every stream with this instead.
    pub(crate) garbage: Option<Vec<u8>>,
    /// Consume streams are cut after this many frames, once each.
    pub(crate) cut_consumers_after: Option<usize>,
    pub(crate) log_start: u64,
    pub(crate) group: FakeGroup,
}

pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) pem: String,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    endpoint: Endpoint,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

impl FakeBroker {
    pub(crate) fn start(partitions: u32) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), partitions)
    }

    pub(crate) fn start_at(address: SocketAddr, partitions: u32) -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = key.cert.der().clone();
        let fingerprint = certificate_fingerprint(&certificate);
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private.into())
        .unwrap();
        tls.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = Endpoint::server(config, address).unwrap();
        let state = State {
            partitions,
            ..State::default()
        };
        let broker = Self {
            address: endpoint.local_addr().unwrap(),
            fingerprint,
            pem: key.cert.pem(),
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(Notify::new()),
            endpoint,
        };
        let serving = Serving {
            state: Arc::clone(&broker.state),
            changed: Arc::clone(&broker.changed),
        };
        let endpoint = broker.endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        serving.connection(connection).await;
                    }
                });
            }
        });
        broker
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        let trust = Trust::Fingerprint(self.fingerprint);
        ConnectOptions {
            connect_timeout: Duration::from_secs(20),
            reconnect_backoff: Duration::from_millis(1),
            ..ConnectOptions::new(self.address, trust)
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    /// The values of the records stored in a partition, in order.
    pub(crate) fn values(&self, partition: u32) -> Vec<String> {
        let log = log(partition);
        let state = self.state();
        let mut values = Vec::new();
        for frame in state.logs.get(&partition).into_iter().flatten() {
            let frame = millrace_model::Frame::check_stored(frame, log.checksum_seed()).unwrap();
            let mut scratch = millrace_model::Decompressor::new();
            for record in frame.batch().records(&mut scratch, 1 << 24).unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                values.push(String::from_utf8(value).unwrap());
            }
        }
        values
    }
}

pub(crate) fn log(partition: u32) -> LogId {
    LogId {
        topic: TopicId([9; 16]),
        partition: PartitionId(partition),
    }
}

#[derive(Clone)]
struct Serving {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Serving {
    async fn connection(self, connection: Connection) {
        while let Ok((send, recv)) = connection.accept_bi().await {
            let (serving, connection) = (self.clone(), connection.clone());
            tokio::spawn(async move { serving.stream(connection, send, recv).await });
        }
    }

    /// `None` when the peer went away.
    async fn stream(
        self,
        connection: Connection,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Option<()> {
        let mut reader = MessageReader::default();
        while reader.preface().unwrap().is_none() {
            reader.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
        }
        let kind = reader.preface().unwrap().unwrap().kind;
        let garbage = self.state.lock().unwrap().garbage.clone();
        if let Some(garbage) = garbage {
            send.write_all(&garbage).await.ok()?;
            send.finish().ok()?;
            return Some(());
        }
        match kind {
            StreamKind::Control => {
                let request = message(&mut reader, &mut recv).await?;
                let response = encode(kind, &self.answer(request)).unwrap();
                send.write_chunk(response).await.ok()?;
                send.finish().ok()
            }
            StreamKind::Produce => {
                let open: ProduceOpen = message(&mut reader, &mut recv).await?;
                if open.log.topic != log(0).topic {
                    return refuse(&mut send, ErrorCode::UnknownTopicId).await;
                }
                let opened = ProduceOpened {
                    max_message_bytes: MAX_MESSAGE_BYTES,
                    on_owning_shard: true,
                };
                send.write_chunk(encode(kind, &opened).unwrap())
                    .await
                    .ok()?;
                let seed = open.log.checksum_seed();
                let frames = FrameReader::new(seed, MAX_FRAME_LEN, reader.into_rest());
                self.produce(connection, open.log, frames, send, recv).await
            }
            StreamKind::Consume => {
                let open: ConsumeOpen = message(&mut reader, &mut recv).await?;
                self.consume(open, send).await
            }
            StreamKind::Replicate | StreamKind::Quorum | StreamKind::ConsumeReplica => {
                panic!("a client opens no {kind:?} stream")
            }
        }
    }

    fn answer(&self, request: Request) -> Response {
        let mut state = self.state.lock().unwrap();
        match request {
            Request::Metadata { topics } => {
                let wanted = topics.is_none_or(|names| names.iter().any(|name| name == TOPIC));
                let topic = Topic {
                    name: TOPIC.to_owned(),
                    id: log(0).topic,
                    leaders: (0..state.partitions).map(|_| LEADER).collect(),
                    max_message_bytes: MAX_MESSAGE_BYTES,
                };
                Response::Metadata(Metadata {
                    cluster_id: "fake".to_owned(),
                    version: "0".to_owned(),
                    broker: BrokerId(1),
                    brokers: Vec::new(),
                    shards: 1,
                    connected_shard: ShardId(0),
                    topics: wanted.then_some(topic).into_iter().collect(),
                })
            }
            Request::InitProducerId => {
                state.next_producer += 1;
                Response::ProducerId {
                    id: ProducerId(state.next_producer),
                    epoch: ProducerEpoch(0),
                }
            }
            Request::Metrics => Response::Text("# fake".to_owned()),
            Request::Observe { path } => Response::Text(path),
            Request::Group(request) => {
                let partitions = state.partitions;
                state.group.answer(partitions, *request)
            }
            Request::DescribePartition { log } => {
                let end = state.ends.get(&log.partition.0).copied().unwrap_or(0);
                Response::Partition(PartitionState {
                    partition: log.partition,
                    shard: ShardId(0),
                    log_start: Offset(state.log_start),
                    high_watermark: Offset(end),
                    log_end: Offset(end),
                    leader_epoch: LeaderEpoch(1),
                    segments: 1,
                    bytes: 0,
                })
            }
            other => Response::Error(WireError {
                code: ErrorCode::InvalidRequest as i16,
                message: format!("{other:?}"),
            }),
        }
    }

    async fn produce(
        self,
        connection: Connection,
        log: LogId,
        mut frames: FrameReader,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Option<()> {
        loop {
            let frame = loop {
                if frames.next_header().unwrap().is_some()
                    && let Some(frame) = frames.take_frame()
                {
                    break frame.concat();
                }
                frames.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
            };
            let fault = self
                .state
                .lock()
                .unwrap()
                .faults
                .pop_front()
                .unwrap_or(Fault::None);
            let ack = match fault {
                Fault::Refuse(code) => {
                    self.note(log, &frame);
                    Ack::refused(code, Offset(0))
                }
                Fault::LoseFrame => {
                    self.note(log, &frame);
                    connection.close(VarInt::from_u32(0), b"");
                    return None;
                }
                Fault::Reset(code) => {
                    self.note(log, &frame);
                    send.reset(VarInt::from_u32(reset_code(code))).unwrap();
                    return None;
                }
                Fault::Hang => std::future::pending().await,
                Fault::None | Fault::LoseAck => {
                    self.note(log, &frame);
                    self.append(log, frame)
                }
            };
            if fault == Fault::LoseAck {
                connection.close(VarInt::from_u32(0), b"");
                return None;
            }
            send.write_all(&ack.to_bytes()).await.ok()?;
        }
    }

    fn note(&self, log: LogId, frame: &[u8]) {
        let frame = millrace_model::Frame::check_stored(frame, log.checksum_seed()).unwrap();
        self.state
            .lock()
            .unwrap()
            .stamps
            .push(frame.batch().producer());
    }

    /// As a broker does, with a memory of one sequence number a producer.
    fn append(&self, log: LogId, mut frame: Vec<u8>) -> Ack {
        let mut state = self.state.lock().unwrap();
        let limits = ProduceLimits {
            max_message_bytes: MAX_MESSAGE_BYTES as usize,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
        };
        let partition = log.partition.0;
        let produced =
            ProducedFrame::check(&mut frame, log.checksum_seed(), &limits, Timestamp(1)).unwrap();
        let count = produced.header().record_count;
        if let Some(stamp) = produced.batch().producer() {
            let next = state.producers.entry((partition, stamp.id)).or_insert(0);
            let base = stamp.base_sequence;
            if base.plus(count).0 <= *next {
                return Ack::appended(Offset(0), Timestamp(1), Offset(0));
            }
            if base.0 != *next {
                return Ack::refused(ErrorCode::OutOfOrderSequenceNumber, Offset(0));
            }
            *next = base.plus(count).0;
        }
        let end = state.ends.entry(partition).or_insert(0);
        let base = Offset(*end);
        *end += u64::from(count);
        produced.assign(base, LeaderEpoch(1), Timestamp(1));
        state.logs.entry(partition).or_default().push(frame);
        self.changed.notify_waiters();
        Ack::appended(base, Timestamp(1), Offset(0))
    }

    async fn consume(self, open: ConsumeOpen, mut send: SendStream) -> Option<()> {
        let partition = open.log.partition.0;
        let (start, end, log_start) = {
            let state = self.state.lock().unwrap();
            let end = state.ends.get(&partition).copied().unwrap_or(0);
            let start = match open.from {
                OffsetSpec::At(at) => at.0,
                OffsetSpec::Latest => end,
                OffsetSpec::Earliest | OffsetSpec::Timestamp(_) => state.log_start,
            };
            (start, end, state.log_start)
        };
        if start < log_start || start > end {
            return refuse(&mut send, ErrorCode::OffsetOutOfRange).await;
        }
        let opened = ConsumeOpened {
            start: Offset(start),
            log_start: Offset(log_start),
            high_watermark: Offset(end),
            on_owning_shard: true,
        };
        send.write_chunk(encode(StreamKind::Consume, &opened).unwrap())
            .await
            .ok()?;
        let mut next = start;
        loop {
            let changed = self.changed.notified();
            let frame = self.frame_at(open.log, next);
            let Some((frame, after)) = frame else {
                changed.await;
                continue;
            };
            let cut = {
                let mut state = self.state.lock().unwrap();
                match state.cut_consumers_after {
                    Some(0) => {
                        state.cut_consumers_after = None;
                        true
                    }
                    Some(left) => {
                        state.cut_consumers_after = Some(left - 1);
                        false
                    }
                    None => false,
                }
            };
            if cut {
                // In the middle of a frame.
                send.write_all(&frame[..frame.len() / 2]).await.ok()?;
                send.reset(VarInt::from_u32(0)).unwrap();
                return None;
            }
            send.write_chunk(Bytes::from(frame)).await.ok()?;
            next = after;
        }
    }

    fn frame_at(&self, log: LogId, offset: u64) -> Option<(Vec<u8>, u64)> {
        let state = self.state.lock().unwrap();
        state.logs.get(&log.partition.0)?.iter().find_map(|bytes| {
            let header = millrace_model::FrameHeader::parse(bytes, log.checksum_seed()).unwrap();
            let next = header.next_offset().0;
            (next > offset).then(|| (bytes.clone(), next))
        })
    }
}

async fn message<M: Message>(reader: &mut MessageReader, recv: &mut RecvStream) -> Option<M> {
    loop {
        if let Some(message) = reader.message().unwrap() {
            return Some(message);
        }
        reader.push(recv.read_chunk(1 << 16, true).await.ok()??.bytes);
    }
}

async fn refuse(send: &mut SendStream, code: ErrorCode) -> Option<()> {
    let error = WireError {
        code: code as i16,
        message: "the fake broker says so".to_owned(),
    };
    let bytes = encode(StreamKind::Control, &Response::Error(error)).unwrap();
    send.write_chunk(bytes).await.ok()?;
    send.finish().ok()
}
