//! What is sent.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use millrace_model::{BatchBuilder, BatchSpec, Compression, Header, LogId, Timestamp};

use crate::BenchError;
use crate::options::{CompressionOption, Load, Payload};

/// Bytes at the start of each value in `e2e`: when its batch was due.
pub(crate) const STAMP_LEN: usize = 8;

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

/// Builds batches of one shape for one partition.
pub(crate) struct BatchMaker {
    form: Form,
    spec: BatchSpec,
    records: u32,
    value: Vec<u8>,
    builder: BatchBuilder,
}

impl BatchMaker {
    pub(crate) fn new(form: Form, load: &Load, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let len = load.record_size.get();
        let value = match load.payload {
            Payload::Random => std::iter::repeat_with(|| random.u8(..)).take(len).collect(),
            Payload::Text => text(&mut random, len),
        };
        let spec = BatchSpec {
            compression: load.compression.into(),
            ..BatchSpec::default()
        };
        Self {
            form,
            spec,
            records: load.batch.get(),
            value,
            builder: BatchBuilder::new(),
        }
    }

    /// A batch whose records carry `stamp`, if their values have room for it.
    pub(crate) fn batch(&mut self, stamp: Duration) -> Result<Bytes, BenchError> {
        let nanos = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
        if let Some(room) = self.value.first_chunk_mut::<STAMP_LEN>() {
            *room = nanos.to_le_bytes();
        }
        for _ in 0..self.records {
            self.builder.append(
                None,
                Some(&self.value),
                std::iter::empty::<Header<'_>>(),
                now(),
            )?;
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
}

/// The due time that a value carries, as time since `epoch`.
pub(crate) fn stamped(value: &[u8], epoch: Instant) -> Option<Instant> {
    let nanos = u64::from_le_bytes(*value.first_chunk::<STAMP_LEN>()?);
    epoch.checked_add(Duration::from_nanos(nanos))
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
