//! The two ways to a broker, as one: batches go out, acknowledgements and batches come in. What
//! is written above this does not know which protocol carries it.

use std::ops::ControlFlow;

use bytes::Bytes;
use millrace_client::{AckReceiver, FrameReceiver, FrameSender, ReceivedFrame};
use millrace_model::{BatchError, Decompressor, ErrorCode, Frame, LogId, Offset, RecordBatch};

use crate::BenchError;
use crate::kafka::{FetchStream, ProduceAcks, ProduceSender};

/// Most bytes that one batch may decompress to: the largest frame, far above what the load
/// makes.
const BATCH_LIMIT: usize = 256 << 20;

/// The sending half of a producer of one partition.
pub(crate) enum BatchSender {
    /// A produce stream of the native protocol.
    Quic(FrameSender),
    /// Produce requests of the Kafka protocol.
    Kafka(ProduceSender),
}

impl BatchSender {
    /// Sends a batch in the form that the transport takes.
    pub(crate) async fn send(&mut self, batch: Bytes) -> Result<(), BenchError> {
        match self {
            Self::Quic(sender) => Ok(sender.send(batch).await?),
            Self::Kafka(sender) => Ok(sender.send(batch).await?),
        }
    }

    /// Says that no more will come; acknowledgements end after the last one.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Quic(sender) => sender.finish(),
            Self::Kafka(sender) => sender.finish(),
        }
    }
}

/// The acknowledgements of a producer, in the order of its batches.
pub(crate) enum Acknowledgements {
    /// Of a produce stream.
    Quic(AckReceiver),
    /// Of produce requests.
    Kafka(ProduceAcks),
}

impl Acknowledgements {
    /// What became of the next batch, or `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<ErrorCode>, BenchError> {
        match self {
            Self::Quic(acks) => {
                let ack = acks.next().await?;
                Ok(ack.map(|ack| ErrorCode::from_i16(ack.code)))
            }
            Self::Kafka(acks) => Ok(acks.next().await?),
        }
    }
}

/// The batches of one partition, in order.
pub(crate) enum BatchReceiver {
    /// A consume stream of the native protocol.
    Quic(LogId, FrameReceiver),
    /// Fetch requests of the Kafka protocol, one after the other.
    Kafka(FetchStream),
}

impl BatchReceiver {
    /// The next batch, or `None` when the broker has ended the stream. Nothing is lost when
    /// this is given up half way.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, BenchError> {
        match self {
            Self::Quic(log, frames) => {
                let frame = frames.next().await?;
                Ok(frame.map(|frame| Received::Frame(*log, frame)))
            }
            Self::Kafka(fetches) => Ok(Some(Received::Batch(fetches.next().await?))),
        }
    }
}

/// A batch that came from the broker.
pub(crate) enum Received {
    /// In its frame.
    Frame(LogId, ReceivedFrame),
    /// Bare, with its header read.
    Batch(crate::kafka::FetchedBatch),
}

impl Received {
    /// Its records.
    pub(crate) fn records(&self) -> u64 {
        u64::from(match self {
            Self::Frame(_, frame) => frame.header.record_count,
            Self::Batch(batch) => batch.header.record_count,
        })
    }

    /// The offset after its last record.
    pub(crate) fn next_offset(&self) -> Offset {
        match self {
            Self::Frame(_, frame) => frame.header.next_offset(),
            Self::Batch(batch) => batch.next_offset(),
        }
    }

    /// Checks the batch, and calls `read` with the value of each record, until it says that it
    /// has seen enough.
    pub(crate) fn values(
        self,
        scratch: &mut Decompressor,
        mut read: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let bytes;
        let batch = match self {
            Self::Frame(log, frame) => {
                bytes = frame.into_bytes();
                Frame::check_stored(&bytes, log.checksum_seed())
                    .map_err(|error| error.to_string())?
                    .batch()
            }
            Self::Batch(batch) => {
                bytes = batch.bytes;
                RecordBatch::check(&bytes).map_err(|error| error.to_string())?
            }
        };
        let why = |error: BatchError| error.to_string();
        for record in batch.records(scratch, BATCH_LIMIT).map_err(why)? {
            let value = record.map_err(why)?.value.unwrap_or_default();
            if read(value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
