//! The two halves of a replica stream, whatever carries it: QUIC, or memory in a test.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::future::{or, poll_once};
use glommio::timer::sleep;
use millrace_wire::Record;

/// Bytes read from a stream at a time.
const READ_LEN: usize = 256 << 10;

/// What has begun to arrive must go on within this. A run of 1 MiB passes at 35 KB/s.
const STALL: Duration = Duration::from_secs(30);

/// The stream has ended, in whatever way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnded;

/// What comes.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub(crate) trait Incoming {
    /// The next bytes. Dropping the future loses none.
    async fn chunk(&mut self) -> Result<Bytes, StreamEnded>;
}

/// What goes.
#[allow(
    async_fn_in_trait,
    reason = "a shard is one thread; no future here is Send"
)]
pub(crate) trait Outgoing {
    /// Hands on the chunks, in order, once there is room for them.
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamEnded>;

    /// Nothing more will be written.
    fn finish(&mut self);
}

impl Incoming for quinn::RecvStream {
    async fn chunk(&mut self) -> Result<Bytes, StreamEnded> {
        match self.read_chunk(READ_LEN, true).await {
            Ok(Some(chunk)) => Ok(chunk.bytes),
            Ok(None) | Err(_) => Err(StreamEnded),
        }
    }
}

impl Outgoing for quinn::SendStream {
    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamEnded> {
        self.write_all_chunks(chunks).await.map_err(|_| StreamEnded)
    }

    fn finish(&mut self) {
        // An error means that the stream has ended already.
        let _ = quinn::SendStream::finish(self);
    }
}

/// The next bytes of what has begun to arrive.
pub(super) async fn chunk_soon(incoming: &mut impl Incoming) -> Result<Bytes, StreamEnded> {
    let mut chunk = std::pin::pin!(incoming.chunk());
    if let Some(chunk) = poll_once(chunk.as_mut()).await {
        return chunk;
    }
    let stalled = async {
        sleep(STALL).await;
        Err(StreamEnded)
    };
    or(chunk, stalled).await
}

/// Records as bytes.
pub(super) fn put_record(record: &impl Record, out: &mut BytesMut) {
    record.put(out);
}
