//! A record on its way, and how its sender learns where it was stored.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use millrace_model::{Offset, PartitionId, Timestamp};

use crate::{ClientError, RecordHeader};

/// Bytes of a record's fixed fields at most: attributes, a timestamp of 10 bytes, and five
/// lengths and counts of 5.
const RECORD_OVERHEAD: usize = 36;

/// Bytes of the two lengths of a header at most.
const HEADER_OVERHEAD: usize = 10;

/// A record to send.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProducerRecord {
    /// Its partition; `None` leaves that to the partitioner.
    pub partition: Option<PartitionId>,
    /// Its key, or null.
    pub key: Option<Bytes>,
    /// Its value, or null.
    pub value: Option<Bytes>,
    /// Its headers in order. A key may occur more than once.
    pub headers: Vec<RecordHeader>,
    /// When it was made; `None` takes the clock when it is sent.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with this value and nothing else.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// With this key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// To this partition.
    #[must_use]
    pub fn to_partition(self, partition: PartitionId) -> Self {
        Self {
            partition: Some(partition),
            ..self
        }
    }

    /// Bytes that it takes in a batch, at most.
    pub(super) fn len_bound(&self) -> usize {
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let header =
            |header: &RecordHeader| HEADER_OVERHEAD + header.key.len() + bytes(&header.value);
        let headers = self.headers.iter().map(header).sum::<usize>();
        RECORD_OVERHEAD + bytes(&self.key) + bytes(&self.value) + headers
    }
}

/// Where a record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset. `None` with `Acks::None`, and for a batch that was sent again after the
    /// broker had stored it and forgotten where: it keeps a producer's last five.
    pub offset: Option<Offset>,
    /// When it was made.
    pub timestamp: Timestamp,
    /// The broker's clock when it was appended, or [`Timestamp::NONE`].
    pub append_timestamp: Timestamp,
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base_offset: Option<Offset>,
    pub(super) append_timestamp: Timestamp,
}

/// The fate of a record that was sent. Dropping it does not take the record back.
#[derive(Debug)]
pub struct Delivery {
    pub(super) fate: Fate,
    /// Which record of its batch.
    pub(super) index: u32,
    pub(super) partition: PartitionId,
    pub(super) timestamp: Timestamp,
    /// Where this delivery's waker stands in the fate's list.
    pub(super) waker: Option<usize>,
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let stored = std::task::ready!(this.fate.poll(&mut this.waker, cx));
        Poll::Ready(stored.map(|stored| {
            RecordMetadata {
                partition: this.partition,
                offset: stored
                    .base_offset
                    .map(|base| base.plus(u64::from(this.index))),
                timestamp: this.timestamp,
                append_timestamp: stored.append_timestamp,
            }
        }))
    }
}

/// The fate of a batch, awaited by any number.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<Mutex<FateState>>);

#[derive(Debug, Default)]
struct FateState {
    result: Option<Result<Stored, ClientError>>,
    wakers: Vec<Waker>,
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, FateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll(
        &self,
        slot: &mut Option<usize>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stored, ClientError>> {
        let mut state = self.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        match slot {
            Some(at) => state.wakers[*at].clone_from(cx.waker()),
            None => {
                *slot = Some(state.wakers.len());
                state.wakers.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }

    pub(super) fn is_decided(&self) -> bool {
        self.lock().result.is_some()
    }

    /// Completes when the fate is decided, whatever it is.
    pub(super) async fn decided(&self) {
        let mut slot = None;
        let _ = poll_fn(|cx| self.poll(&mut slot, cx)).await;
    }

    fn complete(&self, result: Result<Stored, ClientError>) {
        let wakers = {
            let mut state = self.lock();
            if state.result.is_some() {
                return;
            }
            state.result = Some(result);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Whoever holds this decides the fate of a batch, once. Dropped before, the producer is
/// gone.
#[derive(Debug, Default)]
pub(super) struct Completion(Fate);

impl Completion {
    pub(super) fn fate(&self) -> Fate {
        self.0.clone()
    }

    /// Only the first call counts.
    pub(super) fn complete(&self, result: Result<Stored, ClientError>) {
        self.0.complete(result);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.0.complete(Err(ClientError::Closed));
    }
}
