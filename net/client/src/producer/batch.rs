//! A closed batch, from its records to the bytes that travel.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use millrace_model::batch::BuildError;
use millrace_model::{
    BatchBuilder, BatchSpec, Compression, ErrorCode, FRAME_HEADER_LEN, LogId, ProducerStamp,
};

use super::inbox::{Gathering, Reservation};
use super::record::Completion;

/// A batch that waits to be sent, or for its acknowledgement.
#[derive(Debug)]
pub(super) struct Batch {
    content: Content,
    pub(super) record_count: u32,
    /// Given when it is sent first, and kept so that the broker knows it again.
    pub(super) stamp: Option<ProducerStamp>,
    /// It was sent and its connection broke: the broker may have stored it.
    pub(super) may_be_stored: bool,
    pub(super) deadline: Instant,
    /// The broker's last refusal for the moment: what a delivery that is given up failed of.
    pub(super) refusal: Option<ErrorCode>,
    pub(super) completion: Completion,
    _reservation: Option<Reservation>,
}

#[derive(Debug)]
enum Content {
    Records(BatchBuilder),
    Frame(Bytes, Option<ProducerStamp>),
}

impl Batch {
    pub(super) fn new(gathering: Gathering, deadline: Instant) -> Self {
        Self {
            record_count: gathering.builder.record_count(),
            content: Content::Records(gathering.builder),
            stamp: None,
            may_be_stored: false,
            deadline,
            refusal: None,
            completion: gathering.completion,
            _reservation: gathering.reservation,
        }
    }

    /// The frame with the present stamp. The first call compresses, and gives back the
    /// builder for its buffers; a later one with another stamp patches.
    pub(super) fn frame(
        &mut self,
        log: LogId,
        compression: Compression,
        level: Option<i32>,
    ) -> Result<(Bytes, Option<BatchBuilder>), BuildError> {
        let producer = self.stamp;
        match &mut self.content {
            Content::Records(builder) => {
                let mut out = BytesMut::with_capacity(FRAME_HEADER_LEN + builder.len());
                builder.build_frame(
                    log,
                    &BatchSpec {
                        compression,
                        level,
                        producer,
                    },
                    &mut out,
                )?;
                let (builder, frame) = (std::mem::take(builder), out.freeze());
                self.content = Content::Frame(frame.clone(), producer);
                Ok((frame, Some(builder)))
            }
            Content::Frame(frame, stamp) => {
                if let Some(wanted) = producer
                    && *stamp != producer
                {
                    *frame = restamped(frame, wanted);
                    *stamp = producer;
                }
                Ok((frame.clone(), None))
            }
        }
    }
}

/// Where the fields of a version 2 record batch lie, from its start.
const CRC_AT: usize = 17;
/// The CRC covers everything from the attributes on.
const ATTRIBUTES_AT: usize = 21;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;

/// The same frame with another stamp, and the batch's CRC anew. The frame's own header
/// covers neither.
fn restamped(frame: &Bytes, stamp: ProducerStamp) -> Bytes {
    let mut bytes = BytesMut::from(&frame[..]);
    let batch_len = bytes[12..16].try_into().expect("a range of four bytes");
    let batch_len = u32::from_le_bytes(batch_len) as usize;
    let batch = &mut bytes[FRAME_HEADER_LEN..FRAME_HEADER_LEN + batch_len];
    batch[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&stamp.id.0.to_be_bytes());
    batch[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&stamp.epoch.0.to_be_bytes());
    batch[BASE_SEQUENCE_AT..BASE_SEQUENCE_AT + 4]
        .copy_from_slice(&stamp.base_sequence.0.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use millrace_model::{Frame, ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new();
        builder
            .append(None, Some(b"value"), [], Timestamp(7))
            .unwrap();
        let gathering = Gathering {
            builder,
            completion: Completion::default(),
            reservation: None,
            since: Instant::now(),
        };
        Batch::new(gathering, Instant::now())
    }

    fn stamp(id: i64, sequence: i32) -> ProducerStamp {
        let base_sequence = Sequence(sequence);
        ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(3),
            base_sequence,
        }
    }

    #[test]
    fn another_stamp_gives_the_frame_that_it_would_have_had() {
        let log = LogId::default();
        let (mut patched, mut fresh) = (batch(), batch());
        patched.stamp = Some(stamp(1, 2));
        patched.frame(log, Compression::None, None).unwrap();
        patched.stamp = Some(stamp(77, 5));
        fresh.stamp = Some(stamp(77, 5));
        let patched = patched.frame(log, Compression::None, None).unwrap().0;
        let fresh = fresh.frame(log, Compression::None, None).unwrap().0;
        assert_eq!(patched, fresh);
        let frame = Frame::check_stored(&patched, log.checksum_seed()).unwrap();
        assert_eq!(frame.batch().producer(), Some(stamp(77, 5)));
    }
}
