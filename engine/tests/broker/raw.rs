//! A client that says what it likes: QUIC streams without the client library.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use millrace_client::{ErrorCode, LogId};
use millrace_model::{BatchBuilder, BatchSpec, ProducerStamp, ShardCount, ShardId, Timestamp};
use millrace_net::PeerIdentity;
use millrace_wire::{
    ACK_LEN, Ack, Acks, ConsumeOpen, ConsumeOpened, Message, PREFACE_LEN, PeerName, Preface,
    ProduceOpen, ProduceOpened, Request, Response, StreamKind, encode, reset_error,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, ReadExactError, RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// A connection to a shard of choice.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr, shard: u8, shards: u8) -> Self {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config(shard, shards));
        let connection = endpoint.connect(addr, "millrace").unwrap().await.unwrap();
        Self {
            connection,
            _endpoint: endpoint,
        }
    }

    /// As another broker of a cluster, to the one of this name.
    pub(crate) async fn connect_as_peer(
        addr: SocketAddr,
        peer: &PeerIdentity,
        to: PeerName,
    ) -> Self {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = ClientConfig::new(peer.client());
        let connecting = endpoint.connect_with(config, addr, &to.to_string());
        Self {
            connection: connecting.unwrap().await.unwrap(),
            _endpoint: endpoint,
        }
    }

    /// Opens a stream with a message.
    pub(crate) async fn open<M: Message>(&self, kind: StreamKind, message: &M) -> Stream {
        self.open_with(&encode(kind, message).unwrap()).await
    }

    /// Opens a stream with any bytes.
    pub(crate) async fn open_with(&self, bytes: &[u8]) -> Stream {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        Stream { send, recv }
    }

    pub(crate) async fn request(&self, request: &Request) -> Response {
        let mut stream = self.open(StreamKind::Control, request).await;
        stream.send.finish().unwrap();
        stream.message::<Response>().await.unwrap().1
    }

    /// Opens a produce stream that is expected to open.
    pub(crate) async fn produce(&self, log: LogId, acks: Acks) -> (Stream, ProduceOpened) {
        let mut stream = self
            .open(StreamKind::Produce, &ProduceOpen { log, acks })
            .await;
        let (kind, opened) = stream.message().await.unwrap();
        assert_eq!(kind, StreamKind::Produce);
        (stream, opened)
    }

    /// Opens a consume stream that is expected to open.
    pub(crate) async fn consume(&self, open: ConsumeOpen) -> (Stream, ConsumeOpened) {
        let mut stream = self.open(StreamKind::Consume, &open).await;
        let (kind, opened) = stream.message().await.unwrap();
        assert_eq!(kind, StreamKind::Consume);
        (stream, opened)
    }
}

pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl Stream {
    /// The next message, or the code that the stream was reset with.
    pub(crate) async fn message<M: Message>(&mut self) -> Result<(StreamKind, M), ErrorCode> {
        let mut preface = [0; PREFACE_LEN];
        self.read(&mut preface).await?;
        let preface = Preface::from_bytes(&preface).unwrap();
        let mut message = vec![0; preface.message_len as usize];
        self.read(&mut message).await?;
        Ok((preface.kind, M::from_archive(&message).unwrap()))
    }

    /// The error that a refused stream is answered with.
    pub(crate) async fn refusal(&mut self) -> ErrorCode {
        match self.message::<Response>().await {
            Ok((StreamKind::Control, Response::Error(error))) => ErrorCode::from_i16(error.code),
            Ok(other) => panic!("not refused but answered: {other:?}"),
            Err(code) => panic!("not refused but reset: {code}"),
        }
    }

    pub(crate) async fn ack(&mut self) -> Result<Ack, ErrorCode> {
        let mut bytes = [0; ACK_LEN];
        self.read(&mut bytes).await?;
        Ok(Ack::from_bytes(&bytes))
    }

    pub(crate) async fn read(&mut self, bytes: &mut [u8]) -> Result<(), ErrorCode> {
        match self.recv.read_exact(bytes).await {
            Ok(()) => Ok(()),
            Err(ReadExactError::ReadError(quinn::ReadError::Reset(code))) => {
                Err(reset_error(code.into_inner()))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A frame with these values, as a producer sends it. Its records are new, so that retention
/// leaves them alone.
pub(crate) fn frame(log: LogId, values: &[&str], stamp: Option<ProducerStamp>) -> Bytes {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let now = Timestamp(i64::try_from(now).unwrap());
    let mut builder = BatchBuilder::new();
    for value in values {
        builder
            .append(None, Some(value.as_bytes()), [], now)
            .unwrap();
    }
    let spec = BatchSpec {
        producer: stamp,
        ..BatchSpec::default()
    };
    let mut out = BytesMut::new();
    builder.build_frame(log, &spec, &mut out).unwrap();
    out.freeze()
}

fn config(shard: u8, shards: u8) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tls.alpn_protocols = vec![millrace_wire::ALPN.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let shards = ShardCount::new(shards).unwrap();
    config.initial_dst_cid_provider(Arc::new(move || {
        millrace_net::initial_cid_for(ShardId(shard), shards)
    }));
    config
}

/// Certificates are not what these tests are about.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
