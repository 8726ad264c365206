//! The streams of one partition, raw: frames as bytes, acknowledgements as they come. The
//! producer and the consumer stand on these; load generators use them directly.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millrace_model::{ErrorCode, FrameHeader, LogId, MAX_FRAME_LEN, Offset};
use millrace_wire::{
    Ack, AckReader, Acks, ChunkQueue, ConsumeOpen, ConsumeOpened, FrameReader, Message,
    MessageReader, OffsetSpec, ProduceOpen, ProduceOpened, Response, StreamKind, reset_error,
};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::ClientError;
use crate::link::{Link, Remote};

/// Most bytes taken off a stream at once.
pub(crate) const READ_CHUNK_BYTES: usize = 1 << 20;

/// Chunks taken off a stream at once: quinn hands out one a packet.
const READ_CHUNKS: usize = 64;

/// The sending half of a produce stream.
#[derive(Debug)]
pub struct FrameSender {
    remote: Arc<Remote>,
    send: SendStream,
}

impl FrameSender {
    /// Sends one whole frame, by reference. Completes when the transport has it, so it
    /// awaits the broker's flow control.
    ///
    /// # Errors
    /// [`ClientError::Broker`] when the broker ended the stream,
    /// [`ClientError::Disconnected`].
    pub async fn send(&mut self, mut frame: Bytes) -> Result<(), ClientError> {
        while !frame.is_empty() {
            self.send_some(&mut frame).await?;
        }
        Ok(())
    }

    /// Sends a first part of `bytes` and takes it off. Cancelled, it has sent nothing.
    pub(crate) async fn send_some(&mut self, bytes: &mut Bytes) -> Result<(), ClientError> {
        let sent = self.send.write_chunks(std::slice::from_mut(bytes)).await;
        sent.map(drop)
            .map_err(|error| write_error(&self.remote, &error))
    }

    /// Says that no frame follows. Acknowledgements of those sent still come.
    pub fn finish(&mut self) {
        // An error means that the stream has ended already.
        let _ = self.send.finish();
    }
}

/// The receiving half of a produce stream.
#[derive(Debug)]
pub struct AckReceiver {
    remote: Arc<Remote>,
    recv: RecvStream,
    reader: AckReader,
}

impl AckReceiver {
    /// The next acknowledgement, or `None` when the broker has ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Broker`] when the broker reset the stream,
    /// [`ClientError::Disconnected`], [`ClientError::Protocol`].
    pub async fn next(&mut self) -> Result<Option<Ack>, ClientError> {
        loop {
            if let Some(ack) = self.reader.next_ack() {
                return Ok(Some(ack));
            }
            match read(&self.remote, &mut self.recv, |chunk| {
                self.reader.push(chunk)
            })
            .await?
            {
                Read::More => {}
                Read::End if self.reader.pending_bytes() == 0 => return Ok(None),
                Read::End => return Err(cut_in("an acknowledgement")),
            }
        }
    }

    /// What it means that the stream is at its end.
    pub(crate) fn ended(&self) -> ClientError {
        self.remote.disconnected("the broker ended the stream")
    }

    /// An acknowledgement that has arrived already.
    pub fn next_ready(&mut self) -> Option<Ack> {
        self.reader.next_ack()
    }
}

/// A frame as it came, of which only the header has been checked.
#[derive(Clone, Debug)]
pub struct ReceivedFrame {
    /// Its header.
    pub header: FrameHeader,
    /// All its bytes, header included, in the pieces in which they came.
    pub chunks: Vec<Bytes>,
}

impl ReceivedFrame {
    /// The frame in one piece: by reference when it came so.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.chunks.len() == 1 {
            return self.chunks.swap_remove(0);
        }
        let mut whole = BytesMut::with_capacity(self.header.len());
        self.chunks
            .iter()
            .for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }
}

/// The receiving half of a consume stream.
#[derive(Debug)]
pub struct FrameReceiver {
    remote: Arc<Remote>,
    recv: RecvStream,
    reader: FrameReader,
    /// Held so that the broker sees the stream open; it ends when dropped.
    _send: SendStream,
    connection: Connection,
}

impl FrameReceiver {
    /// The header of the next frame, whose body may still be on its way, or `None` when the
    /// broker has ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Broker`] when the broker reset the stream, for example with
    /// `OFFSET_OUT_OF_RANGE`; [`ClientError::Disconnected`]; [`ClientError::Protocol`] for
    /// bytes that are no frame of this partition.
    pub async fn next_header(&mut self) -> Result<Option<FrameHeader>, ClientError> {
        loop {
            let header = self.reader.next_header();
            if let Some(header) =
                header.map_err(|error| ClientError::Protocol(error.to_string()))?
            {
                return Ok(Some(header));
            }
            match self.read().await? {
                Read::More => {}
                Read::End if self.reader.pending_bytes() == 0 => return Ok(None),
                Read::End => return Err(cut_in("a frame")),
            }
        }
    }

    /// The next frame, or `None` when the broker has ended the stream.
    ///
    /// # Errors
    /// As for [`FrameReceiver::next_header`].
    pub async fn next(&mut self) -> Result<Option<ReceivedFrame>, ClientError> {
        let Some(header) = self.next_header().await? else {
            return Ok(None);
        };
        loop {
            if let Some(chunks) = self.reader.take_frame() {
                return Ok(Some(ReceivedFrame { header, chunks }));
            }
            if let Read::End = self.read().await? {
                return Err(cut_in("a frame"));
            }
        }
    }

    /// What it means that the stream is at its end.
    pub(crate) fn ended(&self) -> ClientError {
        self.remote.disconnected("the broker ended the stream")
    }

    /// Datagrams that came from the broker so far, on any stream: a sign of life.
    pub(crate) fn datagrams(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    async fn read(&mut self) -> Result<Read, ClientError> {
        read(&self.remote, &mut self.recv, |chunk| {
            self.reader.push(chunk)
        })
        .await
    }
}

/// Opens a produce stream over the link.
pub(crate) async fn open_produce(
    link: &Link,
    log: LogId,
    acks: Acks,
) -> Result<(FrameSender, AckReceiver, ProduceOpened), ClientError> {
    let opened = open(link, StreamKind::Produce, &ProduceOpen { log, acks }).await?;
    let (send, recv, rest, answer) = opened;
    let remote = Arc::clone(link.remote());
    let sender = FrameSender {
        remote: Arc::clone(&remote),
        send,
    };
    Ok((
        sender,
        AckReceiver {
            remote,
            recv,
            reader: AckReader::new(rest),
        },
        answer,
    ))
}

/// Opens a consume stream over the link.
pub(crate) async fn open_consume(
    link: &Link,
    log: LogId,
    from: OffsetSpec,
) -> Result<(FrameReceiver, ConsumeOpened), ClientError> {
    open_frames(link, StreamKind::Consume, ConsumeOpen { log, from }).await
}

/// Opens a consume stream at a broker that need not lead, at an offset.
pub(crate) async fn open_consume_replica(
    link: &Link,
    log: LogId,
    offset: Offset,
) -> Result<(FrameReceiver, ConsumeOpened), ClientError> {
    let from = OffsetSpec::At(offset);
    open_frames(link, StreamKind::ConsumeReplica, ConsumeOpen { log, from }).await
}

async fn open_frames(
    link: &Link,
    kind: StreamKind,
    message: ConsumeOpen,
) -> Result<(FrameReceiver, ConsumeOpened), ClientError> {
    let connection = link.connection().await?;
    let opened = open_on(link, &connection, kind, &message).await?;
    let (send, recv, rest, answer) = opened;
    let seed = message.log.checksum_seed();
    let reader = FrameReader::new(seed, MAX_FRAME_LEN, rest);
    let remote = Arc::clone(link.remote());
    Ok((
        FrameReceiver {
            remote,
            recv,
            reader,
            _send: send,
            connection,
        },
        answer,
    ))
}

type Opened<A> = (SendStream, RecvStream, ChunkQueue, A);

async fn open<M: Message, A: Message>(
    link: &Link,
    kind: StreamKind,
    message: &M,
) -> Result<Opened<A>, ClientError> {
    let connection = link.connection().await?;
    open_on(link, &connection, kind, message).await
}

async fn open_on<M: Message, A: Message>(
    link: &Link,
    connection: &Connection,
    kind: StreamKind,
    message: &M,
) -> Result<Opened<A>, ClientError> {
    let remote = link.remote();
    let after = remote.options.request_timeout;
    let opened = remote
        .runtime
        .timeout(after, converse(remote, connection, kind, message))
        .await;
    opened.unwrap_or(Err(ClientError::TimedOut {
        what: "opening a stream",
        after,
    }))
}

async fn converse<M: Message, A: Message>(
    remote: &Arc<Remote>,
    connection: &quinn::Connection,
    kind: StreamKind,
    message: &M,
) -> Result<Opened<A>, ClientError> {
    let (mut send, mut recv) = connection
        .open_bi()
        .await
        .map_err(|error| remote.disconnected(error))?;
    let bytes = millrace_wire::encode(kind, message).expect("an opening has a fixed length");
    send.write_chunk(bytes)
        .await
        .map_err(|error| write_error(remote, &error))?;
    let mut reader = MessageReader::default();
    loop {
        let found = reader.preface()?.map(|preface| preface.kind);
        if found == Some(StreamKind::Control) {
            if let Some(response) = reader.message::<Response>()? {
                return Err(refusal(response));
            }
        } else {
            expect_kind(&mut reader, kind)?;
            if let Some(answer) = reader.message()? {
                return Ok((send, recv, reader.into_rest(), answer));
            }
        }
        match read(remote, &mut recv, |chunk| reader.push(chunk)).await? {
            Read::More => {}
            Read::End => return Err(reader.cut_short().into()),
        }
    }
}

fn refusal(response: Response) -> ClientError {
    match response {
        Response::Error(error) => error.into(),
        other => crate::control::unexpected(other),
    }
}

/// Refuses a stream of another kind, once its preface is there.
pub(crate) fn expect_kind(
    reader: &mut MessageReader,
    expected: StreamKind,
) -> Result<(), ClientError> {
    match reader.preface()? {
        Some(preface) if preface.kind != expected => Err(millrace_wire::DecodeError::Kind {
            expected,
            found: preface.kind,
        }
        .into()),
        _ => Ok(()),
    }
}

enum Read {
    More,
    End,
}

/// Takes what has arrived, at least a chunk.
async fn read(
    remote: &Arc<Remote>,
    recv: &mut RecvStream,
    mut push: impl FnMut(Bytes),
) -> Result<Read, ClientError> {
    let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
    let read = recv
        .read_chunks(&mut chunks)
        .await
        .map_err(|error| read_error(remote, &error))?;
    let Some(count) = read else {
        return Ok(Read::End);
    };
    chunks.into_iter().take(count).for_each(&mut push);
    Ok(Read::More)
}

/// What it means that a stream cannot be read.
pub(crate) fn read_error(remote: &Remote, error: &ReadError) -> ClientError {
    match error {
        ReadError::Reset(code) => reset(remote, *code),
        ReadError::ConnectionLost(error) => connection_error(remote, error),
        other => remote.disconnected(other),
    }
}

/// What it means that a stream cannot be written.
pub(crate) fn write_error(remote: &Remote, error: &WriteError) -> ClientError {
    match error {
        WriteError::Stopped(code) => reset(remote, *code),
        WriteError::ConnectionLost(error) => connection_error(remote, error),
        other => remote.disconnected(other),
    }
}

fn connection_error(remote: &Remote, error: &ConnectionError) -> ClientError {
    remote.disconnected(error)
}

fn reset(remote: &Remote, code: VarInt) -> ClientError {
    match reset_error(code.into_inner()) {
        ErrorCode::None => remote.disconnected("the broker ended the stream"),
        code => {
            let message = "the broker reset the stream".to_owned();
            ClientError::Broker { code, message }
        }
    }
}

fn cut_in(what: &str) -> ClientError {
    ClientError::Protocol(format!("the stream ends in {what}"))
}
