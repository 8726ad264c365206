//! Wraps a record batch in a frame as a producer sends it: offset 0, leader epoch 0.

use bytes::{BufMut, BytesMut};

use super::header::{FRAME_HEADER_LEN, FrameHeader, frame_len_for};
use crate::batch::{BatchError, BatchHeader, RecordBatch};
use crate::{LeaderEpoch, LogId, Offset, Timestamp};

/// Appends to `out` the frame that a producer sends for `batch`.
///
/// # Errors
/// [`BatchError::Length`] when the frame would be over [`super::MAX_FRAME_LEN`].
pub fn encode_frame(
    log: LogId,
    batch: RecordBatch<'_>,
    out: &mut BytesMut,
) -> Result<(), BatchError> {
    let header = produced_header(batch.header())?;
    out.reserve(header.len());
    out.put_slice(&header.seal(log.checksum_seed()));
    out.put_slice(batch.bytes());
    out.put_bytes(0, header.len() - FRAME_HEADER_LEN - batch.bytes().len());
    Ok(())
}

/// The frame that a producer sends for the record batch `batch`, which is checked first.
///
/// # Errors
/// [`BatchError`] when `batch` is not one whole record batch, or does not fit a frame.
pub fn frame_for_batch(log: LogId, batch: &[u8]) -> Result<Vec<u8>, BatchError> {
    let batch = RecordBatch::check(batch)?;
    let mut out = BytesMut::new();
    encode_frame(log, batch, &mut out)?;
    Ok(out.into())
}

/// The header of the frame that a producer sends for this batch.
pub(crate) fn produced_header(batch: &BatchHeader) -> Result<FrameHeader, BatchError> {
    let too_long = BatchError::Length { stated: batch.len };
    let frame_len = frame_len_for(batch.len).ok_or(too_long)?;
    let fits = "a frame's lengths are below MAX_FRAME_LEN";
    Ok(FrameHeader {
        magic: FrameHeader::MAGIC,
        checksum: 0,
        frame_len: u32::try_from(frame_len).expect(fits),
        batch_len: u32::try_from(batch.len).expect(fits),
        base_offset: Offset::ZERO,
        last_offset_delta: batch.last_offset_delta,
        record_count: batch.record_count,
        leader_epoch: LeaderEpoch(0),
        reserved_a: 0,
        max_timestamp: batch.largest_timestamp(),
        append_timestamp: Timestamp::NONE,
        reserved_b: 0,
    })
}
