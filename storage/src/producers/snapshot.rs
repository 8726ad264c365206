//! Producer state as bytes, inside a footer or the log-start file, which hold the checksum.
//! The byte map is in `storage/FORMAT.md`.

use super::{MAX_PRODUCERS, Producer, Producers, REMEMBERED_BATCHES, Remembered};
use crate::decoder::{DecodeError, Decoder};
use millrace_model::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes of a producer without its batches.
const PRODUCER_LEN: usize = 12;

/// Writes all producers, ordered by id, to the end of `out`.
pub(crate) fn encode(producers: &Producers, out: &mut Vec<u8>) {
    let count = u32::try_from(producers.known.len()).expect("MAX_PRODUCERS fits in 32 bits");
    out.extend(count.to_le_bytes());
    for (id, producer) in &producers.known {
        out.extend(id.0.to_le_bytes());
        out.extend(producer.epoch.0.to_le_bytes());
        out.extend(u16::from(producer.len).to_le_bytes());
        producer
            .batches()
            .iter()
            .for_each(|batch| encode_batch(batch, out));
    }
}

fn encode_batch(batch: &Remembered, out: &mut Vec<u8>) {
    out.extend(batch.first.0.to_le_bytes());
    out.extend(batch.last.0.to_le_bytes());
    out.extend(batch.base.0.to_le_bytes());
    out.extend(batch.next.0.to_le_bytes());
    out.extend(batch.appended.0.to_le_bytes());
}

/// Reads what [`encode`] wrote; nothing may follow.
///
/// # Errors
/// [`DecodeError`] when the bytes are no snapshot.
pub(crate) fn decode(bytes: &[u8]) -> Result<Producers, DecodeError> {
    let mut from = Decoder::new(bytes);
    let count = from.count(PRODUCER_LEN)?;
    if count > MAX_PRODUCERS {
        return Err(DecodeError::Content("more producers than a log remembers"));
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let (id, producer) = decode_producer(&mut from)?;
        if producers
            .known
            .last_key_value()
            .is_some_and(|(last, _)| *last >= id)
        {
            return Err(DecodeError::Content("producers out of order"));
        }
        producers.known.insert(id, producer);
    }
    match from.remaining() {
        0 => Ok(producers),
        _ => Err(DecodeError::Content("bytes behind the last producer")),
    }
}

fn decode_producer(from: &mut Decoder<'_>) -> Result<(ProducerId, Producer), DecodeError> {
    let id = ProducerId(from.i64()?);
    let mut producer = Producer::new(ProducerEpoch(from.i16()?));
    let batches = from.i16()?;
    if !(0..=REMEMBERED_BATCHES as i16).contains(&batches) {
        return Err(DecodeError::Content("more batches than are remembered"));
    }
    for _ in 0..batches {
        producer.remember(decode_batch(from)?);
    }
    Ok((id, producer))
}

fn decode_batch(from: &mut Decoder<'_>) -> Result<Remembered, DecodeError> {
    Ok(Remembered {
        first: Sequence(from.i32()?),
        last: Sequence(from.i32()?),
        base: Offset(from.u64()?),
        next: Offset(from.u64()?),
        appended: Timestamp(from.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producers::ProducerBatch;

    fn one_producer() -> Producers {
        let mut producers = Producers::default();
        let batch = ProducerBatch {
            id: ProducerId(0x0102),
            epoch: ProducerEpoch(3),
            first: Sequence(4),
            last: Sequence(5),
        };
        producers.record(&batch, Offset(6), Offset(8), Timestamp(9));
        producers
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        encode(&one_producer(), &mut bytes);
        let golden = [
            &[1, 0, 0, 0][..],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[3, 0, 1, 0],
            &[4, 0, 0, 0, 5, 0, 0, 0],
            &[6, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, golden);
        assert_eq!(decode(&bytes).unwrap().known, one_producer().known);
    }

    #[test]
    fn every_prefix_is_refused() {
        let mut bytes = Vec::new();
        encode(&one_producer(), &mut bytes);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "prefix of {len}");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_count_without_bytes_reserves_nothing() {
        assert_eq!(
            decode(&u32::MAX.to_le_bytes()).unwrap_err(),
            DecodeError::Short
        );
    }
}
