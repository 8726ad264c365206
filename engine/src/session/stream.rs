//! What the streams of a session have in common: their opening, and the ways in which they
//! end before the client ends them.

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use glommio::timer::sleep;
use millrace_model::ErrorCode;
use millrace_wire::{
    ChunkQueue, DecodeError, Message, MessageReader, Preface, Response, StreamKind, encode,
    reset_code,
};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::shard::budget::MemoryBudget;
use crate::shard::stall::Watch;
use crate::shard::{Refusal, Shard, wire_error};

/// Bytes read from a stream at a time: as much as there is, in chunks that quinn holds
/// anyway.
pub(super) const READ_LEN: usize = 256 << 10;

/// How many connections it takes to fill a shard's memory with frames that never become
/// whole: each may hold this share of the budget for frames that it has begun.
const CONNECTION_SHARE: usize = 8;

/// What one connection may hold for frames that it has begun to send. Without it a client
/// could promise long frames on every stream it may open, send nothing of them, and leave
/// nothing for the others until its time is over.
pub(super) fn connection_budget(shard: &Shard) -> MemoryBudget {
    MemoryBudget::new(
        shard.budget().limit() / CONNECTION_SHARE,
        MAX_WAITING_STREAMS,
    )
}

/// Streams of a connection that wait for their turn: as many as it can have.
const MAX_WAITING_STREAMS: usize = 64 * 1024;

/// Why a stream ends before the client ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client has reset it, or the connection is gone: nobody to tell.
    Gone,
    /// The broker ends it for this reason.
    Reset(ErrorCode),
    /// The broker shuts down: what was received is finished, then the stream.
    Drain,
}

impl From<ReadError> for Ending {
    fn from(_: ReadError) -> Self {
        Self::Gone
    }
}

impl From<WriteError> for Ending {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

/// The QUIC application error code that stands for `code`.
pub(super) fn application_code(code: ErrorCode) -> VarInt {
    VarInt::from_u32(reset_code(code))
}

/// The receiving half of a stream with its watch.
pub(super) struct Incoming {
    pub(super) stream: RecvStream,
    pub(super) watch: Rc<Watch>,
    /// Memory for frames that the connection has begun, see [`connection_budget`].
    pub(super) begun: MemoryBudget,
}

impl Incoming {
    pub(super) fn new(shard: &Shard, stream: RecvStream, begun: MemoryBudget) -> Self {
        let watch = shard.stalls().watch();
        Self {
            stream,
            watch,
            begun,
        }
    }

    /// The next chunk, or `None` at the end of the stream.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Ending> {
        let read = async { Ok(self.stream.read_chunk(READ_LEN, true).await?) };
        let stalled = async { Err(Ending::Reset(self.watch.stalled().await)) };
        let chunk = or(read, stalled).await?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Tells the client that nothing more will be read, and why.
    pub(super) fn stop(&mut self, code: ErrorCode) {
        // An error means that the stream has ended already.
        let _ = self.stream.stop(application_code(code));
    }
}

/// Why a stream did not open.
pub(super) enum OpeningError {
    /// Nobody to tell.
    Ended(Ending),
    /// The client is told.
    Malformed(DecodeError),
}

impl From<Ending> for OpeningError {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

impl From<DecodeError> for OpeningError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Reads the opening of a stream, in two steps: the preface, then the message it announces.
pub(super) struct Opening {
    reader: MessageReader,
}

impl Opening {
    /// Reads the preface. The client has until the watch's limit for the whole opening.
    pub(super) async fn begin(incoming: &mut Incoming) -> Result<(Self, Preface), OpeningError> {
        incoming.watch.begin(Instant::now());
        let mut reader = MessageReader::default();
        loop {
            if let Some(preface) = reader.preface()? {
                return Ok((Self { reader }, preface));
            }
            feed(&mut reader, incoming).await?;
        }
    }

    /// Reads the message, and returns it with what followed.
    pub(super) async fn message<M: Message>(
        mut self,
        incoming: &mut Incoming,
    ) -> Result<(M, ChunkQueue), OpeningError> {
        loop {
            if let Some(message) = self.reader.message()? {
                incoming.watch.done();
                return Ok((message, self.reader.into_rest()));
            }
            feed(&mut self.reader, incoming).await?;
        }
    }
}

async fn feed(reader: &mut MessageReader, incoming: &mut Incoming) -> Result<(), OpeningError> {
    match incoming.chunk().await? {
        Some(chunk) => reader.push(chunk),
        None => return Err(reader.cut_short().into()),
    }
    Ok(())
}

/// Runs `work` until it ends or the shard drains.
pub(super) async fn until_drain<T>(
    shard: &Shard,
    work: impl Future<Output = Result<T, Ending>>,
) -> Result<T, Ending> {
    or(work, async {
        shard.draining().wait().await;
        Err(Ending::Drain)
    })
    .await
}

/// Sends one message and keeps the stream open.
pub(super) async fn send_message<M: Message>(
    send: &mut SendStream,
    kind: StreamKind,
    message: &M,
) -> Result<(), Ending> {
    let bytes = encode(kind, message).map_err(|_| Ending::Reset(ErrorCode::UnknownServerError))?;
    Ok(send.write_chunk(bytes).await?)
}

/// Refuses to open a stream: an error response, then the end.
pub(super) async fn refuse(send: &mut SendStream, refusal: Refusal) {
    let response = Response::Error(wire_error(refusal));
    // A client that does not listen gets no answer.
    if send_message(send, StreamKind::Control, &response)
        .await
        .is_ok()
    {
        finish(send).await;
    }
}

/// How long the end of a stream waits for the client to confirm that it has all of it. A
/// shutdown waits for that too, and a client that has vanished must not hold it up.
const FAREWELL: Duration = Duration::from_secs(2);

/// Ends a stream in good order and waits until the client has all of it.
pub(super) async fn finish(send: &mut SendStream) {
    // An error means that the stream has ended already.
    let _ = send.finish();
    let confirmed = async {
        let _ = send.stopped().await;
    };
    or(confirmed, sleep(FAREWELL)).await;
}

/// Ends a stream at once, for a reason.
pub(super) fn reset(send: &mut SendStream, code: ErrorCode) {
    // An error means that the stream has ended already.
    let _ = send.reset(application_code(code));
}
