//! A topic's settings, by Kafka's names, typed and checked.
//!
//! Values are text at the edges (configuration files, requests, the metadata log) and
//! numbers inside. [`TopicSettings::resolve`] is the only way from one to the other.

use std::str::FromStr;

use crate::{MAX_BATCH_LEN, ProduceLimits, TimestampType};

/// What is done with data that retention no longer keeps: Kafka's `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CleanupPolicy {
    /// Whole segments are removed.
    #[default]
    Delete,
}

/// The settings of one topic. The default is the default of every setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `flush.bytes`: with write caching, unflushed bytes that start a flush.
    pub flush_bytes: u64,
    /// `flush.ms`: with write caching, the age of unflushed data that starts a flush.
    pub flush_ms: u64,
    /// `max.message.bytes`: the longest record batch, as it is sent.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker a record may be.
    pub message_timestamp_after_max_ms: u64,
    /// `message.timestamp.before.max.ms`: how far behind the broker a record may be.
    pub message_timestamp_before_max_ms: u64,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.insync.replicas`: how many replicas must be in sync for an append.
    pub min_insync_replicas: u32,
    /// `retention.bytes`: how much of a partition is kept; `None` (-1) for all.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: for how long data is kept; `None` (-1) for ever.
    pub retention_ms: Option<u64>,
    /// `segment.bytes`: the length at which a segment is sealed.
    pub segment_bytes: u64,
    /// `segment.ms`: the age at which a segment is sealed.
    pub segment_ms: u64,
    /// `write.caching`: acknowledge when in memory, before durable.
    pub write_caching: bool,
}

/// A setting that cannot be. The code is [`crate::ErrorCode::InvalidConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value}: {why}")]
pub struct SettingError {
    /// The setting's name, as given.
    pub name: String,
    /// Its value, as given.
    pub value: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            cleanup_policy: CleanupPolicy::Delete,
            flush_bytes: 256 << 10,
            flush_ms: 100,
            max_message_bytes: 1_048_588,
            message_timestamp_after_max_ms: 3_600_000,
            message_timestamp_before_max_ms: MAX_LONG,
            message_timestamp_type: TimestampType::CreateTime,
            min_insync_replicas: 1,
            retention_bytes: None,
            retention_ms: Some(7 * DAY_MS),
            segment_bytes: 128 << 20,
            segment_ms: 7 * DAY_MS,
            write_caching: false,
        }
    }
}

/// Kafka's `long` settings end here.
const MAX_LONG: u64 = i64::MAX as u64;

/// Below this a segment is little but its footer.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;

/// Kafka's `int` settings end here; its tools could not show more.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

/// A batch of one small record must fit, or nothing can be produced.
const MIN_MESSAGE_BYTES: u64 = 1 << 10;

/// One setting: its name, and how its value is written and read.
struct Setting {
    name: &'static str,
    show: fn(&TopicSettings) -> String,
    read: fn(&mut TopicSettings, &str) -> Result<(), String>,
}

/// Every setting, by name.
const SETTINGS: [Setting; 14] = [
    Setting {
        name: "cleanup.policy",
        show: |_| "delete".to_owned(),
        read: |settings, value| {
            settings.cleanup_policy = cleanup_policy(value)?;
            Ok(())
        },
    },
    Setting {
        name: "compression.type",
        show: |_| "producer".to_owned(),
        read: |_, value| compression_type(value),
    },
    Setting {
        name: "flush.bytes",
        show: |settings| settings.flush_bytes.to_string(),
        read: |settings, value| {
            settings.flush_bytes = within(value, 1, MAX_LONG, "bytes")?;
            Ok(())
        },
    },
    Setting {
        name: "flush.ms",
        show: |settings| settings.flush_ms.to_string(),
        read: |settings, value| {
            settings.flush_ms = within(value, 1, MAX_LONG, "milliseconds")?;
            Ok(())
        },
    },
    Setting {
        name: "max.message.bytes",
        show: |settings| settings.max_message_bytes.to_string(),
        read: |settings, value| {
            let most = MAX_BATCH_LEN as u64;
            let bytes = within(
                value,
                MIN_MESSAGE_BYTES,
                most,
                "bytes, for a frame holds no more",
            )?;
            settings.max_message_bytes = u32::try_from(bytes).expect("a frame is below 4 GiB");
            Ok(())
        },
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        show: |settings| settings.message_timestamp_after_max_ms.to_string(),
        read: |settings, value| {
            settings.message_timestamp_after_max_ms = within(value, 0, MAX_LONG, "milliseconds")?;
            Ok(())
        },
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        show: |settings| settings.message_timestamp_before_max_ms.to_string(),
        read: |settings, value| {
            settings.message_timestamp_before_max_ms = within(value, 0, MAX_LONG, "milliseconds")?;
            Ok(())
        },
    },
    Setting {
        name: "message.timestamp.type",
        show: |settings| settings.message_timestamp_type.name().to_owned(),
        read: |settings, value| {
            settings.message_timestamp_type = timestamp_type(value)?;
            Ok(())
        },
    },
    Setting {
        name: "min.insync.replicas",
        show: |settings| settings.min_insync_replicas.to_string(),
        read: |settings, value| {
            let replicas = within(value, 1, i16::MAX as u64, "replicas")?;
            settings.min_insync_replicas = u32::try_from(replicas).expect("it is below 2^15");
            Ok(())
        },
    },
    Setting {
        name: "retention.bytes",
        show: |settings| or_unlimited(settings.retention_bytes),
        read: |settings, value| {
            settings.retention_bytes = limit(value, "bytes")?;
            Ok(())
        },
    },
    Setting {
        name: "retention.ms",
        show: |settings| or_unlimited(settings.retention_ms),
        read: |settings, value| {
            settings.retention_ms = limit(value, "milliseconds")?;
            Ok(())
        },
    },
    Setting {
        name: "segment.bytes",
        show: |settings| settings.segment_bytes.to_string(),
        read: |settings, value| {
            settings.segment_bytes = within(value, MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES, "bytes")?;
            Ok(())
        },
    },
    Setting {
        name: "segment.ms",
        show: |settings| settings.segment_ms.to_string(),
        read: |settings, value| {
            settings.segment_ms = within(value, 1, MAX_LONG, "milliseconds")?;
            Ok(())
        },
    },
    Setting {
        name: "write.caching",
        show: |settings| settings.write_caching.to_string(),
        read: |settings, value| {
            settings.write_caching = parse(value, "it is either true or false")?;
            Ok(())
        },
    },
];

impl TopicSettings {
    /// `defaults` with `overrides` set. No setting may be given twice.
    ///
    /// # Errors
    /// [`SettingError`] for the first one that is unknown, given twice, or has a value that
    /// is not legal.
    pub fn resolve(defaults: &Self, overrides: &[(String, String)]) -> Result<Self, SettingError> {
        let mut settings = defaults.clone();
        for (at, (name, value)) in overrides.iter().enumerate() {
            if overrides[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(setting_error(name, value, "it is given twice"));
            }
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    /// Sets one setting by its name.
    ///
    /// # Errors
    /// [`SettingError`] when it is unknown or the value is not legal; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return Err(setting_error(name, value, unknown(name)));
        };
        (setting.read)(self, value).map_err(|why| setting_error(name, value, why))
    }

    /// Every setting's name and value, by name.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        SETTINGS
            .iter()
            .map(|setting| (setting.name, (setting.show)(self)))
            .collect()
    }

    /// What these settings allow in a batch.
    #[must_use]
    pub fn produce_limits(&self) -> ProduceLimits {
        let long = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        ProduceLimits {
            max_message_bytes: self.max_message_bytes as usize,
            timestamp_type: self.message_timestamp_type,
            timestamp_before_max_ms: long(self.message_timestamp_before_max_ms),
            timestamp_after_max_ms: long(self.message_timestamp_after_max_ms),
        }
    }
}

fn setting_error(name: &str, value: &str, why: impl Into<String>) -> SettingError {
    SettingError {
        name: name.to_owned(),
        value: value.to_owned(),
        why: why.into(),
    }
}

fn cleanup_policy(value: &str) -> Result<CleanupPolicy, String> {
    match value {
        "delete" => Ok(CleanupPolicy::Delete),
        "compact" | "compact,delete" | "delete,compact" => {
            Err("compaction is not served, only delete is".to_owned())
        }
        _ => Err("it is delete".to_owned()),
    }
}

fn compression_type(value: &str) -> Result<(), String> {
    match value {
        "producer" => Ok(()),
        "uncompressed" | "gzip" | "snappy" | "lz4" | "zstd" => Err(
            "the broker does not recompress, it stores what the producer sent: producer".to_owned(),
        ),
        _ => Err("it is producer".to_owned()),
    }
}

fn timestamp_type(value: &str) -> Result<TimestampType, String> {
    [TimestampType::CreateTime, TimestampType::LogAppendTime]
        .into_iter()
        .find(|known| known.name() == value)
        .ok_or_else(|| "it is either CreateTime or LogAppendTime".to_owned())
}

fn parse<T: FromStr>(value: &str, why: &str) -> Result<T, String> {
    value.parse().map_err(|_| why.to_owned())
}

fn within(value: &str, least: u64, most: u64, unit: &str) -> Result<u64, String> {
    let why = format!("it is a whole number from {least} to {most} {unit}");
    match parse(value, &why)? {
        number if (least..=most).contains(&number) => Ok(number),
        _ => Err(why),
    }
}

/// A limit, where -1 stands for none.
fn limit(value: &str, unit: &str) -> Result<Option<u64>, String> {
    if value == "-1" {
        return Ok(None);
    }
    let why = format!("it is -1 for no limit, or a whole number from 0 to {MAX_LONG} {unit}");
    within(value, 0, MAX_LONG, unit).map(Some).map_err(|_| why)
}

fn or_unlimited(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

/// Names the setting that was probably meant.
fn unknown(name: &str) -> String {
    let closest = SETTINGS
        .iter()
        .map(|setting| setting.name)
        .min_by_key(|known| edit_distance(name, known))
        .expect("there are settings");
    format!("there is no such setting; the closest is {closest}")
}

/// The longest name that is compared: all known ones are shorter.
const COMPARED_NAME_LEN: usize = 64;

/// Levenshtein's distance of the first bytes of two names.
fn edit_distance(a: &str, b: &str) -> usize {
    let a = &a.as_bytes()[..a.len().min(COMPARED_NAME_LEN)];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(*left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
