//! Reads a log of records, each with its offset.

use millrace_model::{Decompressor, Frame, Offset};
use millrace_storage::Log;
use millrace_storage::disk::Disk;

use super::{JournalError, LOG};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The longest record; they are stored without compression.
const MAX_RECORD_BYTES: usize = 4 << 20;

/// The values of the records from `next` on.
pub(in crate::controller) async fn read<D: Disk>(
    log: &Log<D>,
    next: Offset,
) -> Result<Vec<(Offset, Vec<u8>)>, JournalError> {
    let end = log.durable_end();
    if log.log_start() > next || next > end {
        let message = format!(
            "the snapshot ends at {next}, but the log holds {} to {end}",
            log.log_start()
        );
        return Err(JournalError::Damaged(message));
    }
    let mut records = Vec::new();
    let mut at = next;
    while at < end {
        let runs = log.read(at, READ_BYTES, end).await?;
        let Some(last) = runs.last() else {
            return Err(JournalError::Damaged(format!(
                "nothing is readable at {at}"
            )));
        };
        let reached = last.next;
        for run in &runs {
            frames(run.as_bytes(), next, &mut records)?;
        }
        at = reached;
    }
    Ok(records)
}

/// Adds the values of the records from `next` on.
fn frames(
    mut bytes: &[u8],
    next: Offset,
    out: &mut Vec<(Offset, Vec<u8>)>,
) -> Result<(), JournalError> {
    let damaged = |error: &dyn std::fmt::Display| JournalError::Damaged(error.to_string());
    let mut scratch = Decompressor::new();
    while !bytes.is_empty() {
        let frame = Frame::check_stored(bytes, LOG.checksum_seed()).map_err(|e| damaged(&e))?;
        let batch = frame.batch();
        let records = batch
            .records(&mut scratch, MAX_RECORD_BYTES)
            .map_err(|e| damaged(&e))?;
        for record in records {
            let record = record.map_err(|e| damaged(&e))?;
            let value = record
                .value
                .ok_or_else(|| damaged(&"a record without a value"))?;
            if record.offset >= next {
                out.push((record.offset, value.to_vec()));
            }
        }
        bytes = &bytes[frame.len()..];
    }
    Ok(())
}
