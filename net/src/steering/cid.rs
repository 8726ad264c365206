//! Connection ids that name their shard.

use millrace_model::{ShardCount, ShardId};
use quinn::{ConnectionId, ConnectionIdGenerator};
use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// Length of the connection ids that the broker hands out, and of those that a client invents
/// for its first datagram (QUIC demands 8 there, RFC 9000 section 7.2). One byte names the
/// shard, the other seven are random.
pub const CID_LEN: usize = 8;

/// Datagrams shorter than this cannot be QUIC: no packet with its 16-byte authentication tag
/// fits (RFC 9000 sections 10.3 and 17.2).
pub(super) const MIN_DATAGRAM_LEN: usize = 21;

/// Set in the first byte of a packet with a long header.
pub(super) const LONG_HEADER: u8 = 0x80;

/// Where the destination connection id starts behind a short header.
pub(super) const SHORT_CID_AT: usize = 1;

/// Where it starts behind a long header: after the first byte, the version and its length.
pub(super) const LONG_CID_AT: usize = 6;

const _: () = assert!(MIN_DATAGRAM_LEN > LONG_CID_AT);

/// The shard that a datagram belongs to, by the first byte of its destination connection id;
/// `None` for what is too short to be QUIC.
#[must_use]
pub fn shard_of(datagram: &[u8], shards: ShardCount) -> Option<ShardId> {
    if datagram.len() < MIN_DATAGRAM_LEN {
        return None;
    }
    let long = datagram[0] & LONG_HEADER != 0;
    let byte = datagram[if long { LONG_CID_AT } else { SHORT_CID_AT }];
    Some(ShardId(byte % shards.get()))
}

/// A connection id of which the broker's shard `shard` takes care: for a client's
/// `initial_dst_cid_provider`. A new one for each call.
///
/// # Panics
/// If the broker has no such shard, or the system no randomness.
#[must_use]
pub fn initial_cid_for(shard: ShardId, shards: ShardCount) -> ConnectionId {
    assert!(shard.0 < shards.get(), "shard {shard} of {shards} shards");
    let mut bytes = [0; CID_LEN];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random bytes");
    bytes[0] = byte_for(shard, shards, bytes[0]);
    ConnectionId::new(&bytes)
}

/// A connection id of which shard 0 takes care, of however many: for who does not know the number.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn initial_cid_for_first_shard() -> ConnectionId {
    // The only byte that is 0 modulo every number. One byte more makes up for its certainty.
    let mut bytes = [0; CID_LEN + 1];
    SystemRandom::new()
        .fill(&mut bytes[1..])
        .expect("the system gives random bytes");
    ConnectionId::new(&bytes)
}

/// The byte nearest below `random` that names `shard`, or the first above.
fn byte_for(shard: ShardId, shards: ShardCount, random: u8) -> u8 {
    let base = random - random % shards.get();
    base.checked_add(shard.0).unwrap_or(shard.0)
}

/// Makes the connection ids of one shard.
#[derive(Debug, Clone, Copy)]
pub struct ShardCidGenerator {
    shard: ShardId,
    shards: ShardCount,
}

impl ShardCidGenerator {
    /// A generator for `shard` of `shards`.
    ///
    /// # Panics
    /// If there is no such shard.
    #[must_use]
    pub fn new(shard: ShardId, shards: ShardCount) -> Self {
        assert!(shard.0 < shards.get(), "shard {shard} of {shards} shards");
        Self { shard, shards }
    }
}

impl ConnectionIdGenerator for ShardCidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        initial_cid_for(self.shard, self.shards)
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    /// Ids do not expire: a connection stays with its shard as long as it lives.
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u8) -> ShardCount {
        ShardCount::new(count).unwrap()
    }

    #[test]
    fn every_byte_names_the_shard_it_was_made_for() {
        for count in 1..=u8::MAX {
            for shard in [0, count / 2, count - 1] {
                for random in 0..=u8::MAX {
                    let byte = byte_for(ShardId(shard), shards(count), random);
                    assert_eq!(byte % count, shard, "{random} for {shard} of {count}");
                }
            }
        }
    }

    #[test]
    fn the_first_shard_is_found_among_any_number() {
        let id = initial_cid_for_first_shard();
        for count in 1..=u8::MAX {
            assert_eq!(id[0] % count, 0);
        }
        assert!(id.len() > CID_LEN);
        assert_ne!(id, initial_cid_for_first_shard());
    }

    #[test]
    fn ids_differ_in_every_byte() {
        let mut generator = ShardCidGenerator::new(ShardId(1), shards(2));
        let ids: Vec<_> = (0..64).map(|_| generator.generate_cid()).collect();
        for at in 0..CID_LEN {
            assert!(
                ids.iter().any(|id| id[at] != ids[0][at]),
                "byte {at} is always {}",
                ids[0][at]
            );
        }
        assert!(ids.iter().all(|id| id[0] % 2 == 1));
    }

    #[test]
    fn both_header_forms_are_read() {
        let mut datagram = [0; MIN_DATAGRAM_LEN];
        datagram[SHORT_CID_AT] = 5;
        datagram[LONG_CID_AT] = 6;
        assert_eq!(shard_of(&datagram, shards(4)), Some(ShardId(1)));
        datagram[0] = LONG_HEADER;
        assert_eq!(shard_of(&datagram, shards(4)), Some(ShardId(2)));
        assert_eq!(shard_of(&datagram[1..], shards(4)), None);
        assert_eq!(shard_of(&[], shards(4)), None);
    }
}
