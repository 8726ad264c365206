//! The file `snapshot`: a state as of an offset of the log beside it.
//!
//! Byte map, little-endian; the file is padded with zeros to whole blocks:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | a magic, another for each use |
//! | 4 | 4 | CRC-32C of everything after this field and before the padding |
//! | 8 | 8 | length of the state |
//! | 16 | 8 | offset of the first record that counts behind it |
//! | 24 | | the state |

use std::path::PathBuf;

use bytes::Bytes;
use millrace_model::Offset;
use millrace_replication::quorum::MAX_SNAPSHOT_LEN;
use millrace_storage::disk::{BLOCK_LEN, Disk, Durability, File, OpenMode};

use super::JournalError;

const HEADER_LEN: usize = 24;
const NAME: &str = "snapshot";
const NEW_NAME: &str = "snapshot.new";

/// Bytes of the file: the longest state, and what is around it.
const MAX_FILE_LEN: u64 = MAX_SNAPSHOT_LEN + (1 << 20);

/// A state and where it ends.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::controller) struct Sealed {
    /// The first record that counts behind it.
    pub(in crate::controller) next: Offset,
    /// The state.
    pub(in crate::controller) bytes: Bytes,
}

/// The file in its directory.
pub(in crate::controller) struct SealedFile<D: Disk> {
    disk: D,
    directory: PathBuf,
    magic: [u8; 4],
}

impl<D: Disk> SealedFile<D> {
    pub(in crate::controller) fn new(disk: D, directory: PathBuf, magic: [u8; 4]) -> Self {
        Self {
            disk,
            directory,
            magic,
        }
    }

    /// Replaces the state. Durable when it returns; before, the old one is.
    pub(in crate::controller) async fn save(
        &self,
        next: Offset,
        state: &[u8],
    ) -> Result<(), JournalError> {
        let (new, path) = (self.directory.join(NEW_NAME), self.directory.join(NAME));
        match self.disk.remove_file(&new).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let bytes = encode(self.magic, next, state);
        let mut buffer = self.disk.buffer(bytes.len());
        buffer.as_mut().copy_from_slice(&bytes);
        let page = self.disk.freeze(buffer, bytes.len());
        let file = self
            .disk
            .open(&new, OpenMode::CreateNew(Durability::OnSync))
            .await?;
        file.write_at(&page, 0).await?;
        file.sync().await?;
        self.disk.rename(&new, &path).await?;
        self.disk.sync_dir(&self.directory).await?;
        Ok(())
    }

    /// The state, if there is one.
    pub(in crate::controller) async fn load(&self) -> Result<Option<Sealed>, JournalError> {
        let path = self.directory.join(NAME);
        let file = match self.disk.open(&path, OpenMode::Read).await {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = file.len().await?;
        if len > MAX_FILE_LEN || len % BLOCK_LEN as u64 != 0 {
            return Err(damaged(&format!("it has {len} bytes")));
        }
        let len = usize::try_from(len).expect("MAX_FILE_LEN fits in memory");
        let page = file.read_at(0, len).await?;
        decode(self.magic, page.as_ref()).map(Some)
    }
}

fn encode(magic: [u8; 4], next: Offset, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + state.len() + BLOCK_LEN);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(state.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&next.0.to_le_bytes());
    bytes.extend_from_slice(state);
    let checksum = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
    bytes
}

fn decode(magic: [u8; 4], bytes: &[u8]) -> Result<Sealed, JournalError> {
    let (header, rest) = bytes
        .split_at_checked(HEADER_LEN)
        .ok_or_else(|| damaged("it is too short"))?;
    let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let len = usize::try_from(field(8))
        .ok()
        .filter(|len| *len <= rest.len());
    let len = len.ok_or_else(|| damaged("it is shorter than it states"))?;
    let checksum = crc32c::crc32c(&bytes[8..HEADER_LEN + len]);
    if header[0..4] != magic || header[4..8] != checksum.to_le_bytes() {
        return Err(damaged("its checksum does not hold"));
    }
    Ok(Sealed {
        next: Offset(field(16)),
        bytes: Bytes::copy_from_slice(&rest[..len]),
    })
}

fn damaged(what: &str) -> JournalError {
    JournalError::Damaged(format!("the file {NAME}: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn golden_bytes() {
        let bytes = encode(*b"MRSN", Offset(7), b"state");
        let hex: String = bytes[..32]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "4d52534e195dee46050000000000000007000000000000007374617465000000"
        );
        assert_eq!(bytes.len(), BLOCK_LEN);
        assert!(bytes[29..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = encode(*b"MRQS", Offset(7), b"state");
        assert_eq!(decode(*b"MRQS", &bytes).unwrap().bytes, &b"state"[..]);
        assert!(decode(*b"MRSN", &bytes).is_err(), "another use");
        for bit in 0..8 * (HEADER_LEN + 5) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(*b"MRQS", &flipped).is_err(), "bit {bit}");
        }
        for len in 0..HEADER_LEN + 5 {
            assert!(decode(*b"MRQS", &bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
