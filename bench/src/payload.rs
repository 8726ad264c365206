//! What is sent.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_model::{BatchBuilder, BatchSpec, Compression, Header, LogId, Timestamp};

use crate::BenchError;
use crate::options::{CompressionOption, Load, Payload};
use crate::shape::Shape;

/// Bytes at the start of each value in `e2e`: when its record was due.
pub(crate) const STAMP_LEN: usize = 8;

/// Bytes that values are cut from, one after the other and from the start again: more than the
/// window of most compressions, so that what does not compress stays so.
const POOL_LEN: usize = 4 << 20;

/// Bytes of a file that are read at most. What comes after them is not sent.
const MAX_FILE_LEN: u64 = 256 << 20;

/// Seed of the pool: the same bytes in every run.
const SEED: u64 = 0x6d69_6c6c;

/// Words of the text payload, of the kind that logs are full of.
const WORDS: [&str; 12] = [
    "broker ",
    "partition ",
    "offset ",
    "INFO ",
    "segment ",
    "rolled ",
    "at ",
    "2026-01-01 ",
    "leader ",
    "epoch ",
    "fetch ",
    "0x7f3a ",
];

impl From<CompressionOption> for Compression {
    fn from(option: CompressionOption) -> Self {
        match option {
            CompressionOption::None => Self::None,
            CompressionOption::Gzip => Self::Gzip,
            CompressionOption::Snappy => Self::Snappy,
            CompressionOption::Lz4 => Self::Lz4,
            CompressionOption::Zstd => Self::Zstd,
        }
    }
}

/// What a batch is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A frame for this log, as the native protocol sends it.
    Frame(LogId),
    /// Nothing, as the Kafka protocol sends it.
    Bare,
}

/// The bytes that all values are cut from.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<[u8]>);

impl Pool {
    /// What the load says that values are made of.
    ///
    /// # Errors
    /// A file that cannot be read, or is empty.
    pub(crate) fn new(load: &Load) -> Result<Self, BenchError> {
        let mut random = fastrand::Rng::with_seed(SEED);
        let len = POOL_LEN.max(load.record_size.to);
        let bytes = match &load.payload {
            Payload::Random => {
                let mut bytes = vec![0; len];
                random.fill(&mut bytes);
                bytes
            }
            Payload::Text => text(&mut random, len),
            Payload::File(path) => {
                let wrong = |why: String| {
                    let path = path.display();
                    BenchError::Options(format!("--payload: {path}: {why}"))
                };
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_FILE_LEN).read_to_end(&mut bytes))
                    .map_err(|error| wrong(error.to_string()))?;
                if bytes.is_empty() {
                    return Err(wrong("it is empty".to_owned()));
                }
                // A short file as often as it takes for the longest value.
                let times = load.record_size.to.div_ceil(bytes.len());
                bytes.repeat(times)
            }
        };
        Ok(Self(bytes.into()))
    }
}

/// Builds the batches of one producer for one partition.
pub(crate) struct BatchMaker {
    form: Form,
    spec: BatchSpec,
    pool: Pool,
    /// Where the next value is cut from.
    at: usize,
    value: Vec<u8>,
    builder: BatchBuilder,
}

impl BatchMaker {
    pub(crate) fn new(form: Form, load: &Load, pool: Pool, seed: u64) -> Self {
        let spec = BatchSpec {
            compression: load.compression.into(),
            ..BatchSpec::default()
        };
        Self {
            form,
            spec,
            at: fastrand::Rng::with_seed(seed).usize(..pool.0.len()),
            pool,
            value: Vec::with_capacity(load.record_size.to),
            builder: BatchBuilder::new(),
        }
    }

    /// A batch whose values are nothing but payload.
    pub(crate) fn plain(&mut self, shape: &Shape) -> Result<Bytes, BenchError> {
        self.batch(shape, |_, _| {})
    }

    /// A batch whose values begin with when they were due: the first at `due`, each of the others
    /// `apart` later than the one before.
    pub(crate) fn stamped(
        &mut self,
        shape: &Shape,
        due: Duration,
        apart: Duration,
    ) -> Result<Bytes, BenchError> {
        self.batch(shape, |index, value| {
            let stamp = due + apart * index;
            let nanos = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
            if let Some(room) = value.first_chunk_mut::<STAMP_LEN>() {
                *room = nanos.to_le_bytes();
            }
        })
    }

    fn batch(
        &mut self,
        shape: &Shape,
        stamp: impl Fn(u32, &mut [u8]),
    ) -> Result<Bytes, BenchError> {
        let made = now();
        for (index, size) in (0..).zip(&shape.sizes) {
            self.cut(*size);
            stamp(index, &mut self.value);
            let none = std::iter::empty::<Header<'_>>();
            self.builder.append(None, Some(&self.value), none, made)?;
        }
        match self.form {
            Form::Frame(log) => {
                let mut out = BytesMut::new();
                self.builder.build_frame(log, &self.spec, &mut out)?;
                Ok(out.freeze())
            }
            Form::Bare => Ok(self.builder.build(&self.spec)?.into()),
        }
    }

    /// Cuts the next value, which goes on at the start of the pool after its end.
    fn cut(&mut self, size: usize) {
        self.value.clear();
        let pool = &self.pool.0;
        let first = size.min(pool.len() - self.at);
        self.value
            .extend_from_slice(&pool[self.at..self.at + first]);
        self.value.extend_from_slice(&pool[..size - first]);
        self.at = (self.at + size) % pool.len();
    }
}

/// The moment that a value carries.
pub(crate) fn stamp_of(value: &[u8]) -> Option<Duration> {
    let nanos = u64::from_le_bytes(*value.first_chunk::<STAMP_LEN>()?);
    Some(Duration::from_nanos(nanos))
}

fn text(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        text.extend_from_slice(WORDS[random.usize(..WORDS.len())].as_bytes());
    }
    text.truncate(len);
    text
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |time| {
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::load;
    use crate::shape::Shapes;
    use millrace_model::{Decompressor, RecordBatch};
    use std::io::Write;

    fn values(batch: &[u8]) -> Vec<Vec<u8>> {
        let (batch, mut scratch) = (RecordBatch::check(batch).unwrap(), Decompressor::new());
        let records = batch.records(&mut scratch, 1 << 20).unwrap();
        let values = records.map(|record| record.unwrap().value.unwrap().to_vec());
        values.collect()
    }

    fn made(line: &str) -> (BatchMaker, Shapes) {
        let load = load(&line.split_ascii_whitespace().collect::<Vec<_>>());
        let maker = BatchMaker::new(Form::Bare, &load, Pool::new(&load).unwrap(), 1);
        (maker, Shapes::new(&load, 1))
    }

    #[test]
    fn the_records_of_a_batch_differ() {
        let (mut maker, shapes) = made("produce --batch 64 --compression zstd");
        let batch = maker.plain(shapes.of(0)).unwrap();
        assert!(batch.len() > 64 * 1024, "random bytes do not compress");
        let values = values(&batch);
        assert!((1..64).all(|other| values[other] != values[0]));
    }

    #[test]
    fn each_record_carries_when_it_was_due() {
        let (mut maker, shapes) = made("e2e --batch 3 --size 8..20");
        let milli = Duration::from_millis(1);
        let batch = maker.stamped(shapes.of(1), 7 * milli, milli).unwrap();
        let stamps: Vec<_> = values(&batch).iter().map(|of| stamp_of(of)).collect();
        assert_eq!(stamps, [Some(7 * milli), Some(8 * milli), Some(9 * milli)]);
        assert_eq!(stamp_of(b"short"), None);
    }

    #[test]
    fn a_file_is_sent_from_one_end_to_the_other_and_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abcde").unwrap();
        let line = format!(
            "produce --batch 5 --size 3 --payload file:{}",
            file.path().display()
        );
        let (mut maker, shapes) = made(&line);
        let sent = values(&maker.plain(shapes.of(0)).unwrap()).concat();
        let sent = String::from_utf8(sent).unwrap();
        assert!("abcde".repeat(5).contains(&sent), "{sent}");
    }

    #[test]
    fn a_file_that_has_nothing_is_named() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for path in [empty.path().display().to_string(), "/nowhere".to_owned()] {
            let load = load(&["produce", "--payload", &format!("file:{path}")]);
            let error = Pool::new(&load).unwrap_err().to_string();
            assert!(error.contains(&path), "{error}");
        }
    }
}
