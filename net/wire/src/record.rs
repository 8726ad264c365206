//! Records of a fixed length, one after another without a preface, and what comes between
//! them: the two directions of a replica stream.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{from_archive, to_archive};
use crate::replica::{ArchivedFollowerRecord, ArchivedLeaderRecord};
use crate::{ChunkQueue, DecodeError, FollowerRecord, LeaderRecord, MAX_RUN_LEN};

/// A message of a fixed length.
pub trait Record: Sized + sealed::Sealed {
    /// Its length in bytes.
    const LEN: usize;

    /// Writes it behind what `out` holds.
    fn put(&self, out: &mut BytesMut);

    /// The record that these bytes are.
    ///
    /// # Errors
    /// [`DecodeError::Archive`] when they are none, [`DecodeError::RunLength`] when it
    /// announces more frames than may come at once.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! records {
    ($($record:ty = $archived:ty, $check:expr;)*) => {$(
        impl sealed::Sealed for $record {}
        impl Record for $record {
            const LEN: usize = size_of::<$archived>();

            fn put(&self, out: &mut BytesMut) {
                let archive = to_archive(self).expect("a record is far below the limit");
                assert_eq!(archive.len(), Self::LEN, "a record holds nothing by reference");
                out.put_slice(&archive);
            }

            fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
                let (expected, found) = (Self::LEN, bytes.len());
                if expected != found {
                    return Err(DecodeError::Length { expected, found });
                }
                let record = from_archive::<Self>(bytes)?;
                let check: fn(&Self) -> Result<(), DecodeError> = $check;
                check(&record).map(|()| record)
            }
        }
    )*};
}

records! {
    FollowerRecord = ArchivedFollowerRecord, |_| Ok(());
    LeaderRecord = ArchivedLeaderRecord, |record| match record.said.run_len() {
        len if len > MAX_RUN_LEN => Err(DecodeError::RunLength(len)),
        _ => Ok(()),
    };
}

/// Reads one direction of a replica stream: records, and after a record that says so, frames.
/// It buffers what it is fed: who feeds it stops when what it waits for is there.
#[derive(Debug, Default)]
pub struct RecordReader {
    chunks: ChunkQueue,
}

impl RecordReader {
    /// A reader that starts with what another one left over.
    #[must_use]
    pub fn new(chunks: ChunkQueue) -> Self {
        Self { chunks }
    }

    /// Adds what the stream delivered.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The next record, or `None` until more bytes come.
    ///
    /// # Errors
    /// See [`Record::from_bytes`]. Nothing after it can be read.
    pub fn next_record<R: Record>(&mut self) -> Result<Option<R>, DecodeError> {
        if self.chunks.len() < R::LEN {
            return Ok(None);
        }
        let mut bytes = vec![0; R::LEN];
        let whole = self.chunks.copy_out(&mut bytes);
        assert!(whole, "the length was just compared");
        R::from_bytes(&bytes).map(Some)
    }

    /// The frames of [`crate::LeaderSaid::run_len`] bytes that follow a record, as slices of
    /// the chunks that cover exactly them, or `None` until more bytes come. A
    /// [`crate::FrameReader`] of the partition takes them apart.
    pub fn take_run(&mut self, len: usize) -> Option<Vec<Bytes>> {
        self.chunks.take(len)
    }

    /// Bytes that arrived and were not taken.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.chunks.len()
    }
}
