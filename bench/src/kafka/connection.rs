//! A connection: requests out, answers in, in the same order.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use millrace_kafka::{
    ApiKey, ApiVersionsRequest, Request, RequestHeader, Response, decode_response, encode_request,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{KafkaError, accepted};

/// What the broker knows this client as.
const CLIENT_ID: &str = "millrace-bench";

/// Longest frame that is taken: far above what any request here asks for.
const MAX_FRAME_LEN: usize = 256 << 20;

/// Room that is made for what arrives while no frame's length is known.
const READ_ROOM: usize = 64 << 10;

/// How long a broker may take until it has said what it serves. Its answer takes a fraction of
/// a millisecond; one that is busy with a load is given its time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The highest versions used. Above these a topic is named by an id that older brokers do not
/// have, and nothing is gained by it.
const NAMED_BY_NAME: [(ApiKey, i16); 3] = [
    (ApiKey::Produce, 12),
    (ApiKey::Fetch, 12),
    (ApiKey::DeleteTopics, 5),
];

/// A connection to one broker.
pub(super) struct Connection {
    pub(super) address: String,
    pub(super) stream: TcpStream,
    versions: HashMap<i16, (i16, i16)>,
    answers: Frames,
    next_correlation: i32,
}

impl Connection {
    /// Connects and learns what the broker serves.
    pub(super) async fn open(address: &str) -> Result<Self, KafkaError> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Self::connect(address)).await;
        opened.unwrap_or_else(|_| {
            let why = format!("no broker answered within {CONNECT_TIMEOUT:?}");
            Err(KafkaError::Connection {
                address: address.to_owned(),
                error: std::io::Error::new(std::io::ErrorKind::TimedOut, why),
            })
        })
    }

    async fn connect(address: &str) -> Result<Self, KafkaError> {
        let failed = |error| KafkaError::Connection {
            address: address.to_owned(),
            error,
        };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let api = ApiKey::ApiVersions;
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            // Version 0 of the question is one that every broker answers.
            versions: HashMap::from([(api.key(), (0, 0))]),
            answers: Frames::default(),
            next_correlation: 0,
        };
        let answer = connection.call(ApiVersionsRequest::default()).await?;
        let Response::ApiVersions(served) = answer else {
            unreachable!("an answer is of the API that it was decoded as")
        };
        accepted(api, served.error_code, None)?;
        let ranges = served.api_keys.iter();
        connection.versions = ranges
            .map(|of| (of.api_key, (of.min_version, of.max_version)))
            .collect();
        Ok(connection)
    }

    /// The highest version of an API that both sides know.
    pub(super) fn version(&self, api: ApiKey) -> Result<i16, KafkaError> {
        let capped = NAMED_BY_NAME.iter().find(|(capped, _)| *capped == api);
        let known = capped.map_or(api.max_version(), |(_, version)| *version);
        let served = self.versions.get(&api.key());
        served
            .map(|(min, max)| (*min, known.min(*max)))
            .filter(|(min, version)| version >= min && *version >= api.min_version())
            .map(|(_, version)| version)
            .ok_or(KafkaError::NotServed(api))
    }

    /// Sends a request and waits for its answer. None may be on its way.
    pub(super) async fn call(
        &mut self,
        request: impl Into<Request>,
    ) -> Result<Response, KafkaError> {
        let request = request.into();
        let version = self.version(request.api())?;
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        let mut rope = encode(&request, version, correlation)?;
        let address = self.address.clone();
        let failed = |error| KafkaError::Connection { address, error };
        self.stream.write_all_buf(&mut rope).await.map_err(failed)?;
        let frame = self.answers.next(&mut self.stream, &self.address).await?;
        decode(request.api(), version, correlation, frame)
    }
}

/// The frame of a request.
pub(super) fn encode(
    request: &Request,
    version: i16,
    correlation_id: i32,
) -> Result<Rope, KafkaError> {
    let header = RequestHeader {
        api: request.api(),
        version,
        correlation_id,
        client_id: Some(CLIENT_ID.to_owned()),
    };
    Ok(encode_request(&header, request)?.into())
}

/// The answer in a frame, which must be the one to this request.
pub(super) fn decode(
    api: ApiKey,
    version: i16,
    correlation: i32,
    frame: Bytes,
) -> Result<Response, KafkaError> {
    let (found, response) = decode_response(api, version, frame)?;
    match found == correlation {
        true => Ok(response),
        false => Err(KafkaError::Protocol("an answer to another request")),
    }
}

/// Frames as they arrive.
#[derive(Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// The next frame, without its length. Nothing is lost when this is given up half way.
    pub(crate) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        address: &str,
    ) -> Result<Bytes, KafkaError> {
        loop {
            match self.buffer.first_chunk::<4>() {
                Some(len) => {
                    let len = usize::try_from(i32::from_be_bytes(*len))
                        .ok()
                        .filter(|len| *len <= MAX_FRAME_LEN)
                        .ok_or(KafkaError::Protocol("a frame of an impossible length"))?;
                    let whole = len + 4;
                    if self.buffer.len() >= whole {
                        self.buffer.advance(4);
                        return Ok(self.buffer.split_to(len).freeze());
                    }
                    self.buffer.reserve(whole - self.buffer.len());
                }
                None => self.buffer.reserve(READ_ROOM),
            }
            let read = stream.read_buf(&mut self.buffer).await;
            let read = read.map_err(|error| KafkaError::Connection {
                address: address.to_owned(),
                error,
            })?;
            if read == 0 {
                return Err(KafkaError::Closed);
            }
        }
    }
}

/// The pieces of a frame that are still to be sent.
#[derive(Default)]
pub(crate) struct Rope(VecDeque<Bytes>);

impl From<Vec<Bytes>> for Rope {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(pieces.into())
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.0);
        filled
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.0.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.0.pop_front();
        }
        assert_eq!(count, 0, "no more is taken than there is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rope_is_sent_piece_by_piece() {
        let pieces = [&b"one"[..], b"", b"three"];
        let mut rope = Rope(pieces.into_iter().map(Bytes::from_static).collect());
        assert_eq!(rope.remaining(), 8);
        rope.advance(2);
        assert_eq!(rope.chunk(), b"e");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(rope.chunks_vectored(&mut slices), 3);
        assert_eq!(&*slices[2], b"three");
        rope.advance(3);
        assert_eq!(rope.chunk(), b"ree");
        rope.advance(3);
        assert!(!rope.has_remaining());
    }

    #[tokio::test]
    async fn frames_come_whole_however_they_arrive() {
        let mut frames = Frames::default();
        let bytes = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01d";
        let mut stream = byte_by_byte(&bytes[..]);
        for expected in ["abc", "", "d"] {
            let frame = frames.next(&mut stream, "test").await.unwrap();
            assert_eq!(frame, expected.as_bytes());
        }
        let end = frames.next(&mut stream, "test").await;
        assert!(matches!(end, Err(KafkaError::Closed)));
    }

    #[tokio::test]
    async fn a_frame_of_a_negative_length_is_refused() {
        let mut stream = &b"\xff\xff\xff\xff"[..];
        let answer = Frames::default().next(&mut stream, "test").await;
        assert!(matches!(answer, Err(KafkaError::Protocol(_))));
    }

    /// The bytes one by one.
    fn byte_by_byte(bytes: &[u8]) -> impl AsyncRead + Unpin {
        let mut stream: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for byte in bytes.iter().rev() {
            let first = std::io::Cursor::new(vec![*byte]);
            stream = Box::new(AsyncReadExt::chain(first, stream));
        }
        stream
    }
}
