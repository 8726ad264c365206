//! Variable-length integers as Kafka (and Protocol Buffers) write them: zigzag, seven bits
//! a byte, the least significant first. A 32-bit one takes at most 5 bytes, a 64-bit one 10.

/// Reads a 64-bit integer off the front of `bytes`, or `None` when it does not end there.
pub(super) fn read_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_LONG_LEN) {
        let bits = u64::from(byte & 0x7f);
        if at == MAX_LONG_LEN - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Reads a 32-bit integer off the front of `bytes`, or `None` when it does not end there or
/// takes more bits.
pub(super) fn read_int(bytes: &mut &[u8]) -> Option<i32> {
    // One byte is the rule: lengths and deltas below 64.
    if let [byte @ 0..=0x7f, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(i32::from(byte >> 1) ^ -i32::from(byte & 1));
    }
    let mut value = 0_u32;
    for (at, &byte) in bytes.iter().enumerate().take(MAX_INT_LEN) {
        let bits = u32::from(byte & 0x7f);
        if at == MAX_INT_LEN - 1 && bits > 0b1111 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Appends a 64-bit integer, or a 32-bit one: they are written alike.
pub(super) fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut bits = zigzag(value);
    while bits > 0x7f {
        out.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// Bytes that [`write_long`] takes for `value`.
pub(super) const fn long_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

const MAX_LONG_LEN: usize = 10;
const MAX_INT_LEN: usize = 5;

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_long(&mut out, value);
        assert_eq!(out.len(), long_len(value), "{value}");
        out
    }

    #[test]
    fn numbers_are_written_as_protocol_buffers_documents() {
        let documented: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (0x7fff_ffff, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (-0x8000_0000, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in documented {
            assert_eq!(written(value), bytes);
            assert_eq!(read_int(&mut &bytes[..]).map(i64::from), Some(value));
        }
    }

    #[test]
    fn every_magnitude_reads_back_and_every_cut_is_seen() {
        for shift in 0..64 {
            for value in [
                1_i64 << shift,
                (1_i64 << shift).wrapping_sub(1),
                -(1_i64 << shift.min(62)),
            ] {
                let bytes = written(value);
                let mut rest = &bytes[..];
                assert_eq!(read_long(&mut rest), Some(value));
                assert!(rest.is_empty());
                assert_eq!(
                    read_int(&mut &bytes[..]),
                    i32::try_from(value).ok(),
                    "{value}"
                );
                for len in 0..bytes.len() {
                    assert_eq!(read_long(&mut &bytes[..len]), None);
                    assert_eq!(read_int(&mut &bytes[..len]), None);
                }
            }
        }
    }

    #[test]
    fn bits_beyond_the_type_are_refused() {
        assert_eq!(read_int(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(read_int(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(read_long(&mut &longest[..]), Some(i64::MIN));
        longest[9] = 3;
        assert_eq!(read_long(&mut &longest[..]), None);
    }
}
