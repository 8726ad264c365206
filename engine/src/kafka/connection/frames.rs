//! Frames out of a connection: four bytes of length, then as many of a request.
//!
//! Memory is asked for before it is filled. A frame of up to [`FIRST_PIECE`] is asked for as a
//! whole, a longer one piece by piece as it arrives, so a client that promises much and sends
//! little holds little. Two who wait for their next piece while each holds what the other needs
//! would wait for ever; so whoever finds no memory for a further piece waits for the shard's one
//! overdraft ([`KafkaShard::overdraft`]), and with it reads its frame to the end. So the shard's
//! requests hold the memory budget and one frame at most.
//!
//! [`KafkaShard::overdraft`]: crate::kafka::KafkaShard

use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_lite::future::or;
use millrace_net::{Stint, TcpConnection};

use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::budget::{BudgetError, Permit};
use crate::shard::stall::Watch;

/// Bytes read at a time while it is not known how long the frame is: a request without records
/// fits, and so do several. Of a longer frame no more than this is copied once more, into the
/// frame's own buffer.
const READ_LEN: usize = 8 << 10;

/// Bytes of a frame that are asked for as a whole. A few batches of a busy producer; small beside
/// a shard's memory, for anyone may promise that much.
const FIRST_PIECE: usize = 64 << 10;

/// Address space that is taken for a frame before it has arrived. A longer one grows in place.
const RESERVED: usize = 1 << 20;

/// Bytes of length before each frame.
const PREFIX_LEN: usize = 4;

/// A whole request as bytes.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// The memory that they hold.
    pub(super) memory: Memory,
    /// When its first bytes were seen.
    pub(super) begun: Instant,
    /// When its last byte arrived.
    pub(super) whole: Instant,
}

/// Memory of a frame, held until its request is answered.
pub(crate) struct Memory {
    _pieces: Permit,
    _overdraft: Option<Permit>,
}

/// Why no more frames are read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadEnd {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The client left in the middle of a frame.
    #[error("the connection ended inside of a frame")]
    CutShort,
    /// A length that no request may have.
    #[error("a frame of {0} bytes is not between 0 and socket.request.max.bytes")]
    Length(i32),
    /// The frame is over the shard's whole memory budget.
    #[error(transparent)]
    Memory(#[from] BudgetError),
    /// The client did not go on with what it had begun.
    #[error("the client did not finish a frame in time")]
    Stalled,
}

/// See the module's documentation.
pub(super) struct Frames<'a> {
    shard: &'a Rc<Shard>,
    socket: &'a TcpConnection,
    watch: Rc<Watch>,
    /// What has arrived and is not part of a frame yet.
    pending: BytesMut,
    stint: Stint,
}

impl<'a> Frames<'a> {
    pub(super) fn new(shard: &'a Rc<Shard>, socket: &'a TcpConnection) -> Self {
        Self {
            shard,
            socket,
            watch: shard.stalls().watch(),
            pending: BytesMut::new(),
            stint: Stint::default(),
        }
    }

    /// The next frame, or `None` when the client sends no more.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ReadEnd> {
        self.stint.go_on().await;
        while self.pending.len() < PREFIX_LEN {
            match self.pending.is_empty() {
                // Nothing is begun: an idle connection holds no memory.
                true => self.pending = BytesMut::new(),
                false => self.watch.begin_once(),
            }
            if self.read_pending().await? == 0 {
                return match self.pending.is_empty() {
                    true => Ok(None),
                    false => Err(ReadEnd::CutShort),
                };
            }
        }
        let begun = Instant::now();
        let len = self.take_prefix()?;
        let (bytes, memory) = self.body(len).await?;
        self.watch.done();
        let received = (PREFIX_LEN + len) as u64;
        self.shard.metrics().add(Counter::KafkaBytesIn, received);
        Ok(Some(Frame {
            bytes,
            memory,
            begun,
            whole: Instant::now(),
        }))
    }

    fn take_prefix(&mut self) -> Result<usize, ReadEnd> {
        let stated = self.pending.get_i32();
        let limit = self.shard.config().socket_request_max_bytes.as_usize();
        match usize::try_from(stated) {
            Ok(len) if len <= limit => Ok(len),
            _ => Err(ReadEnd::Length(stated)),
        }
    }

    /// The body of a frame of `len` bytes.
    async fn body(&mut self, len: usize) -> Result<(Bytes, Memory), ReadEnd> {
        let mut granted = len.min(FIRST_PIECE);
        let mut memory = Memory {
            _pieces: self.first_piece(granted).await?,
            _overdraft: None,
        };
        if len <= self.pending.len() && len <= READ_LEN {
            // A copy, so that the buffer can be used again while the request is answered.
            let bytes = Bytes::copy_from_slice(&self.pending[..len]);
            self.pending.advance(len);
            return Ok((bytes, memory));
        }
        let mut body = BytesMut::with_capacity(len.min(RESERVED));
        let here = self.pending.len().min(len);
        body.extend_from_slice(&self.pending.split_to(here));
        self.watch.begin(Instant::now());
        while body.len() < len {
            if body.len() >= granted {
                granted = self.next_piece(granted, len, &mut memory).await?;
                self.watch.begin(Instant::now());
            }
            let wanted = granted - body.len();
            body.reserve(wanted.min(RESERVED));
            if self.read(Some(&mut body), wanted).await? == 0 {
                return Err(ReadEnd::CutShort);
            }
        }
        Ok((body.freeze(), memory))
    }

    /// Memory for the start of a frame. Until it is there, nothing more is read.
    async fn first_piece(&mut self, len: usize) -> Result<Permit, ReadEnd> {
        let budget = self.shard.budget();
        if let Some(permit) = budget.try_acquire(len)? {
            return Ok(permit);
        }
        self.shard.metrics().count(Counter::BudgetWaits);
        // A client is not to blame while it waits for others.
        self.watch.done();
        Ok(budget.acquire(len).await?)
    }

    /// Grants as much again as has arrived; returns how much is granted in all.
    async fn next_piece(
        &self,
        granted: usize,
        len: usize,
        memory: &mut Memory,
    ) -> Result<usize, ReadEnd> {
        if memory._overdraft.is_some() {
            return Ok(len);
        }
        let piece = granted.min(len - granted);
        if let Ok(Some(permit)) = self.shard.budget().try_acquire(piece) {
            memory._pieces.absorb(permit);
            return Ok(granted + piece);
        }
        self.shard.metrics().count(Counter::BudgetWaits);
        self.watch.done();
        memory._overdraft = Some(self.shard.kafka().overdraft().await?);
        Ok(len)
    }

    async fn read_pending(&mut self) -> Result<usize, ReadEnd> {
        self.read(None, READ_LEN).await
    }

    /// Reads into `body`, or into what is pending, at least a byte unless the client sends no
    /// more.
    async fn read(
        &mut self,
        mut body: Option<&mut BytesMut>,
        limit: usize,
    ) -> Result<usize, ReadEnd> {
        loop {
            let into = match &mut body {
                Some(body) => &mut **body,
                None => {
                    self.pending.reserve(READ_LEN);
                    &mut self.pending
                }
            };
            if let Some(read) = self.socket.try_read(into, limit)? {
                self.stint.go_on().await;
                return Ok(read);
            }
            if body.is_none() && self.pending.is_empty() {
                self.pending = BytesMut::new();
            }
            let readable = async { Ok(self.socket.readable().await?) };
            let stalled = async {
                self.watch.stalled().await;
                Err(ReadEnd::Stalled)
            };
            self.stint.awaiting(or(readable, stalled)).await?;
        }
    }
}
