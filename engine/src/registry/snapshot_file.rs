//! The file `snapshot`: the metadata as of an offset of the log of commands.
//!
//! Byte map, little-endian; the file is padded with zeros to whole blocks:
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `MRSN` |
//! | 4 | 4 | CRC-32C of everything after this field and before the padding |
//! | 8 | 8 | length of the snapshot |
//! | 16 | 8 | offset of the first command that the snapshot does not cover |
//! | 24 | | the snapshot, with a version of its own |

use std::path::PathBuf;

use millrace_model::Offset;
use millrace_storage::disk::{BLOCK_LEN, Disk, Durability, File, OpenMode};

use super::JournalError;

const MAGIC: [u8; 4] = *b"MRSN";
const HEADER_LEN: usize = 24;
const NAME: &str = "snapshot";
const NEW_NAME: &str = "snapshot.new";

/// The longest snapshot that is read: as many topics as there may be with the longest names
/// and all their settings stay far below.
const MAX_SNAPSHOT_LEN: u64 = 256 << 20;

/// A snapshot and where it ends.
pub(super) struct StoredSnapshot {
    /// The first command that it does not cover.
    pub(super) next: Offset,
    /// The snapshot.
    pub(super) bytes: Vec<u8>,
}

/// The file in its directory.
pub(super) struct SnapshotFile<D: Disk> {
    disk: D,
    directory: PathBuf,
}

impl<D: Disk> SnapshotFile<D> {
    pub(super) fn new(disk: D, directory: PathBuf) -> Self {
        Self { disk, directory }
    }

    /// Replaces the snapshot. Durable when it returns; before, the old one is.
    pub(super) async fn save(&self, snapshot: &StoredSnapshot) -> Result<(), JournalError> {
        let (new, path) = (self.directory.join(NEW_NAME), self.directory.join(NAME));
        match self.disk.remove_file(&new).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let bytes = encode(snapshot);
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

    /// The snapshot, if there is one.
    pub(super) async fn load(&self) -> Result<Option<StoredSnapshot>, JournalError> {
        let path = self.directory.join(NAME);
        let file = match self.disk.open(&path, OpenMode::Read).await {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = file.len().await?;
        if len > MAX_SNAPSHOT_LEN || len % BLOCK_LEN as u64 != 0 {
            return Err(damaged(&format!("it has {len} bytes")));
        }
        let len = usize::try_from(len).expect("MAX_SNAPSHOT_LEN fits in memory");
        let page = file.read_at(0, len).await?;
        decode(page.as_ref()).map(Some)
    }
}

fn encode(snapshot: &StoredSnapshot) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + snapshot.bytes.len() + BLOCK_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(snapshot.bytes.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&snapshot.next.0.to_le_bytes());
    bytes.extend_from_slice(&snapshot.bytes);
    let checksum = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
    bytes
}

fn decode(bytes: &[u8]) -> Result<StoredSnapshot, JournalError> {
    let (header, rest) = bytes
        .split_at_checked(HEADER_LEN)
        .ok_or_else(|| damaged("it is too short"))?;
    let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let len = usize::try_from(field(8))
        .ok()
        .filter(|len| *len <= rest.len());
    let len = len.ok_or_else(|| damaged("it is shorter than it states"))?;
    let checksum = crc32c::crc32c(&bytes[8..HEADER_LEN + len]);
    if header[0..4] != MAGIC || header[4..8] != checksum.to_le_bytes() {
        return Err(damaged("its checksum does not hold"));
    }
    Ok(StoredSnapshot {
        next: Offset(field(16)),
        bytes: rest[..len].to_vec(),
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
        let bytes = encode(&StoredSnapshot {
            next: Offset(7),
            bytes: b"state".to_vec(),
        });
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
    fn every_flipped_bit_of_header_and_content_is_found() {
        let bytes = encode(&StoredSnapshot {
            next: Offset(7),
            bytes: b"state".to_vec(),
        });
        assert_eq!(decode(&bytes).unwrap().bytes, b"state");
        for bit in 0..8 * (HEADER_LEN + 5) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..HEADER_LEN + 5 {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
