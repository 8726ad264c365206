//! Bodies of the fuzz targets. Each takes any bytes, must not panic, and asserts what has to
//! hold for everything that is accepted. A short run of each is a test (`tests/fuzz.rs`).
//!
//! Checksums would stop nearly every input at the door, so each body tries the bytes as they
//! are and once more with the checksums made right.

use crate::batch::{BATCH_HEADER_LEN, BatchHeader, Records};
use crate::{
    BatchBuilder, BatchSpec, Compression, Decompressor, FRAME_HEADER_LEN, Frame, FrameHeader,
    LeaderEpoch, LogId, Offset, ProducedFrame, RecordBatch, Timestamp, TopicName, TopicSettings,
    WriteHeader,
};

/// Enough for any batch that a mutation of a small one can lead to, and small enough that a
/// bomb meets it.
const LIMIT: usize = 1 << 20;

/// A clock that is neither 0 nor far from the timestamps of seeds.
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Frame headers, stored frames and produced frames of the log with the default id.
pub fn frame(data: &[u8]) {
    let seed = LogId::default().checksum_seed();
    check_frame(data, seed);
    let mut repaired = data.to_vec();
    repair_frame(&mut repaired, seed);
    check_frame(&repaired, seed);
}

/// Write headers.
pub fn write_header(data: &[u8]) {
    let seed = LogId::default().checksum_seed();
    let mut repaired = data.to_vec();
    repair_header(&mut repaired, WriteHeader::MAGIC, seed);
    for bytes in [data, &repaired] {
        if let Ok(header) = WriteHeader::parse(bytes, seed) {
            assert_eq!(header.seal(seed), bytes[..FRAME_HEADER_LEN]);
            assert!(header.durable_end <= header.next_offset);
        }
    }
}

/// Record batches: headers, decompression and the record walk.
pub fn record_batch(data: &[u8]) {
    check_batch(data);
    let mut repaired = data.to_vec();
    repair_batch(&mut repaired);
    check_batch(&repaired);
}

/// The decompressors: the first byte chooses which, the rest is for it.
pub fn decompress(data: &[u8]) {
    let Some((&choice, stored)) = data.split_first() else {
        return;
    };
    let compression = Compression::ALL[usize::from(choice) % Compression::ALL.len()];
    let mut decompressor = Decompressor::new();
    for limit in [0, stored.len(), LIMIT] {
        if let Ok(out) = decompressor.decompress(compression, stored, limit) {
            assert!(out.len() <= limit);
        }
    }
}

/// Settings, as lines of `name=value`, and topic names.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = TopicName::parse(&text) {
        assert_eq!(name.as_str(), text);
    }
    let mut settings = TopicSettings::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let before = settings.clone();
        if settings.set(name, value).is_err() {
            assert_eq!(settings, before, "a refused setting changes nothing");
        }
    }
    let entries: Vec<_> = settings
        .entries()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let read = TopicSettings::resolve(&TopicSettings::default(), &entries);
    assert_eq!(read, Ok(settings), "what is shown can be read back");
}

fn check_frame(bytes: &[u8], seed: u32) {
    if let Ok(header) = FrameHeader::parse(bytes, seed) {
        assert_eq!(header.seal(seed), bytes[..FRAME_HEADER_LEN]);
        assert!(header.next_offset() > header.base_offset);
    }
    if let Ok(frame) = Frame::check_stored(bytes, seed) {
        assert_eq!(frame.bytes(), &bytes[..frame.len()]);
        assert_eq!(
            frame.batch().header().base_offset,
            frame.header().base_offset
        );
        assert_eq!(
            frame.batch().bytes().len(),
            frame.header().batch_len as usize
        );
    }
    check_produced(bytes, seed);
}

fn check_produced(bytes: &[u8], seed: u32) {
    let mut settings = TopicSettings::default();
    for timestamp_type in ["CreateTime", "LogAppendTime"] {
        settings
            .set("message.timestamp.type", timestamp_type)
            .expect("it is a legal value");
        let limits = settings.produce_limits();
        let mut buffer = bytes.to_vec();
        let Ok(produced) = ProducedFrame::check(&mut buffer, seed, &limits, NOW) else {
            continue;
        };
        let frame = produced.assign(Offset(77), LeaderEpoch(3), NOW);
        let (sealed, next) = (frame.header().seal(seed), frame.next_offset());
        let stored = Frame::check_stored(&buffer, seed).expect("what was assigned is a frame");
        assert_eq!(stored.bytes()[..FRAME_HEADER_LEN], sealed);
        assert_eq!(stored.next_offset(), next);
        assert_eq!(stored.header().append_timestamp, NOW);
        assert_eq!(stored.len(), bytes.len());
    }
}

fn check_batch(bytes: &[u8]) {
    let Ok(batch) = RecordBatch::check(bytes) else {
        return;
    };
    let mut scratch = Decompressor::new();
    let valid = batch.validate_records(&mut scratch, LIMIT).is_ok();
    let Ok(records) = batch.records(&mut scratch, LIMIT) else {
        assert!(!valid);
        return;
    };
    let read = records.clone().filter(Result::is_ok).count();
    assert!(read <= batch.header().record_count as usize);
    if valid {
        assert_eq!(read, batch.header().record_count as usize);
        check_rebuilt(batch.header(), records);
    }
}

/// Records that are written again read the same.
fn check_rebuilt(header: &BatchHeader, records: Records<'_>) {
    let mut builder = BatchBuilder::new();
    for record in records.clone() {
        let record = record.expect("the records were validated");
        let added = builder.append(record.key, record.value, record.headers(), record.timestamp);
        added.expect("what was in a batch fits a batch");
    }
    let rebuilt = builder
        .build(&BatchSpec::default())
        .expect("there are records");
    let rebuilt = RecordBatch::check(&rebuilt).expect("what was built is a batch");
    let mut scratch = Decompressor::new();
    let again = rebuilt
        .records(&mut scratch, LIMIT)
        .expect("uncompressed records are there");
    for (record, again) in records.zip(again) {
        let record = record.expect("the records were validated");
        let mut again = again.expect("what was built can be read");
        again.offset = header.base_offset.plus(again.offset.0);
        assert!(record.headers().eq(again.headers()));
        assert_eq!((record.key, record.value), (again.key, again.value));
        assert_eq!(
            (record.offset, record.timestamp),
            (again.offset, again.timestamp)
        );
    }
}

fn repair_frame(bytes: &mut [u8], seed: u32) {
    if let Some(batch) = bytes.get_mut(FRAME_HEADER_LEN..) {
        // The padding is not part of the batch, so its length is kept as it is.
        let stated = batch.get(8..12).and_then(|len| len.first_chunk().copied());
        let len = stated.map_or(0, u32::from_be_bytes) as usize;
        if let Some(batch) = len.checked_add(12).and_then(|len| batch.get_mut(..len)) {
            repair_crc(batch);
        }
    }
    repair_header(bytes, FrameHeader::MAGIC, seed);
}

fn repair_header(bytes: &mut [u8], magic: u32, seed: u32) {
    if bytes.len() >= FRAME_HEADER_LEN {
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &bytes[8..FRAME_HEADER_LEN]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn repair_batch(bytes: &mut [u8]) {
    if bytes.len() >= BATCH_HEADER_LEN {
        let len = u32::try_from(bytes.len() - 12).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        bytes[16] = 2;
        repair_crc(bytes);
    }
}

fn repair_crc(batch: &mut [u8]) {
    if batch.len() >= BATCH_HEADER_LEN {
        let crc = BatchHeader::compute_crc(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}
