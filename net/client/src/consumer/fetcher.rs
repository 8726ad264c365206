//! The task of one partition: reads its consume stream while there is room, and opens it
//! anew where it stopped when it breaks. A consumer that says where it is reads from a replica there
//! (`nearby`), and from the leader while there is none.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{ErrorCode, FrameHeader, LogId, Offset};
use millrace_wire::{ConsumeOpened, OffsetSpec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::OffsetReset;
use crate::link::Link;
use crate::runtime::{Either, race};
use crate::streams::{FrameReceiver, open_consume};
use crate::transport::SIGN_OF_LIFE;
use crate::{Client, ClientError};

/// Wait before a stream that the broker refused or ended is opened again: Kafka's
/// `retry.backoff.ms`.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// After so many storage errors at one place, two seconds' worth, the partition fails: what
/// is damaged on the broker's disk does not heal, and its reader must know.
const STORAGE_ATTEMPTS: u32 = 20;

/// How often a stream is opened for the first time when its connection breaks. Later on
/// there is no bound.
const OPEN_ATTEMPTS: u32 = 3;

/// How often it is opened for the first time at a leader that does not know yet what is committed, five
/// seconds' worth: it learns that from its followers, or when those of them that are gone are fenced.
const UNKNOWN_END_ATTEMPTS: u32 = 50;

/// A broker of a cluster that has sent nothing at all for so long may have died: it was asked for
/// a sign of life meanwhile.
const SILENCE: Duration = SIGN_OF_LIFE.saturating_mul(2);

/// What a partition's task tells the consumer.
#[derive(Debug)]
pub(crate) enum Item {
    /// The stream is open for the first time.
    Opened(ConsumeOpened),
    Frame(Fetched),
    /// Nothing more will come.
    Failed(ClientError),
}

/// A frame that the consumer has not decoded yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    /// Its share of the memory and of the partition's turn, returned when dropped.
    pub(crate) room: Room,
}

/// What a frame occupies until its records were handed out.
#[derive(Debug)]
pub(crate) struct Room {
    _bytes: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

/// What to do when a stream cannot be opened for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Tell whoever waits for it.
    Once,
    /// Try again until it succeeds or the partition is given up: so does a member of a group,
    /// whose coordinator takes partitions that are gone away from it.
    Patient,
}

/// See the module.
pub(crate) struct Fetcher {
    pub(crate) client: Client,
    pub(crate) log: LogId,
    /// Which of the consumer's partitions.
    pub(crate) index: usize,
    pub(crate) reset: OffsetReset,
    pub(crate) opening: Opening,
    pub(crate) items: flume::Sender<(usize, Item)>,
    /// Bytes that the consumer may hold, over all partitions.
    pub(crate) bytes: Arc<Semaphore>,
    pub(crate) buffer_bytes: usize,
    /// Frames of this partition that the consumer may hold.
    pub(crate) turns: Arc<Semaphore>,
    /// Where the consumer is.
    pub(crate) rack: Option<Arc<str>>,
}

/// Whom frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Leader,
    /// A replica in the consumer's rack.
    Nearby,
}

impl Fetcher {
    /// Runs until the partition fails, or the consumer closes `end`.
    pub(crate) async fn run(self, from: OffsetSpec, end: Arc<Semaphore>) {
        race(self.fetch(from), end.acquire()).await;
    }

    async fn fetch(&self, from: OffsetSpec) {
        let mut from = from;
        let mut position = None;
        let mut attempt = 0_u32;
        let mut storage_errors = 0_u32;
        loop {
            (from, position) = self.read_nearby(from, position).await;
            let before = position;
            attempt = attempt.saturating_add(1);
            let link = self.client.link(self.log);
            let opening = open_consume(&link, self.log, from);
            let error = match race(opening, self.client.led_elsewhere(self.log, &link)).await {
                Either::Left(Ok((mut frames, opened))) => {
                    if position.is_none() {
                        self.tell(Item::Opened(opened));
                    }
                    let mut at = opened.start;
                    let forwarding = self.forward(&link, &mut frames, &mut at, Source::Leader);
                    let ended = race(forwarding, self.nearby_again()).await;
                    position = Some(at);
                    from = OffsetSpec::At(at);
                    match ended {
                        Either::Left(error) => error,
                        Either::Right(()) => continue,
                    }
                }
                Either::Left(Err(error)) => error,
                Either::Right(()) => link.remote().disconnected("another broker leads by now"),
            };
            storage_errors = match error.code() {
                ErrorCode::KafkaStorageError if position == before => storage_errors + 1,
                _ => 0,
            };
            if storage_errors > STORAGE_ATTEMPTS {
                return self.tell(Item::Failed(error));
            }
            match self.after(&error, position, attempt) {
                After::Again => {}
                After::Elsewhere(spec) => from = spec,
                After::Fail => return self.tell(Item::Failed(error)),
            }
            tracing::debug!(log = %self.log, %error, "the consume stream is opened again");
            let moved = self.client.find_leader(self.log).await;
            if moved != Ok(true) && !matches!(error, ClientError::Connect { .. }) {
                self.client.shared().runtime.sleep(RETRY_BACKOFF).await;
            }
        }
    }

    /// Hands frames on until the stream ends; says why it did. Dropped before, it has lost nothing
    /// that the position does not tell of.
    pub(super) async fn forward(
        &self,
        link: &Arc<Link>,
        frames: &mut FrameReceiver,
        position: &mut Offset,
        source: Source,
    ) -> ClientError {
        loop {
            match self.forward_one(link, frames, position, source).await {
                Ok(true) => {}
                Ok(false) => return frames.ended(),
                Err(error) => return error,
            }
        }
    }

    /// Waits for the header of the next frame. While none comes and the connection is silent, too,
    /// it asks whether another broker leads by now; of a replica it wants no more.
    async fn next_header(
        &self,
        link: &Arc<Link>,
        frames: &mut FrameReceiver,
        source: Source,
    ) -> Result<Option<FrameHeader>, ClientError> {
        let mut seen = frames.datagrams();
        loop {
            let silent = async {
                match self.client.has_others() {
                    true => self.client.shared().runtime.sleep(SILENCE).await,
                    false => pending().await,
                }
            };
            if let Either::Left(header) = race(frames.next_header(), silent).await {
                return header;
            }
            let now = frames.datagrams();
            if now != seen {
                seen = now;
                continue;
            }
            if source == Source::Nearby {
                return Err(link.remote().disconnected("the replica has fallen silent"));
            }
            // Nobody who knows is as good as no news.
            let _ = self.client.find_leader(self.log).await;
            if !Arc::ptr_eq(&self.client.link(self.log), link) {
                return Err(link.remote().disconnected("another broker leads by now"));
            }
        }
    }

    /// Room comes first: without it the stream is not read, and the broker waits.
    async fn forward_one(
        &self,
        link: &Arc<Link>,
        frames: &mut FrameReceiver,
        position: &mut Offset,
        source: Source,
    ) -> Result<bool, ClientError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| ClientError::Closed)?;
        let Some(header) = self.next_header(link, frames, source).await? else {
            return Ok(false);
        };
        // A frame larger than the whole buffer takes all of it.
        let share = u32::try_from(header.len().min(self.buffer_bytes)).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(share).await;
        let bytes = bytes.map_err(|_| ClientError::Closed)?;
        let Some(frame) = frames.next().await? else {
            return Ok(false);
        };
        let next = header.next_offset();
        if next > *position {
            *position = next;
            let room = Room {
                _bytes: bytes,
                _turn: turn,
            };
            self.tell(Item::Frame(Fetched {
                bytes: frame.into_bytes(),
                room,
            }));
        }
        Ok(true)
    }

    fn after(&self, error: &ClientError, position: Option<Offset>, attempt: u32) -> After {
        match (error.code(), self.reset) {
            (ErrorCode::OffsetOutOfRange, OffsetReset::Earliest) => {
                tracing::warn!(log = %self.log, ?position, "out of range, going to the earliest");
                After::Elsewhere(OffsetSpec::Earliest)
            }
            (ErrorCode::OffsetOutOfRange, OffsetReset::Latest) => {
                tracing::warn!(log = %self.log, ?position, "out of range, going to the latest");
                After::Elsewhere(OffsetSpec::Latest)
            }
            // Whoever opens a consumer is told at once; one that ran goes on.
            _ if position.is_some() && error.is_retriable() && !error.is_gone() => After::Again,
            _ if self.opening == Opening::Patient && error.is_retriable() => After::Again,
            _ if attempt < OPEN_ATTEMPTS && matches!(error, ClientError::Disconnected { .. }) => {
                After::Again
            }
            (ErrorCode::OffsetNotAvailable, _) if attempt < UNKNOWN_END_ATTEMPTS => After::Again,
            _ => After::Fail,
        }
    }

    pub(super) fn tell(&self, item: Item) {
        // Without a receiver the consumer is gone, and so is this task soon.
        let _ = self.items.send((self.index, item));
    }
}

/// What to do when a stream ended.
enum After {
    Again,
    Elsewhere(OffsetSpec),
    Fail,
}
