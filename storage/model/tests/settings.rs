//! A topic's settings: names, defaults, ranges and the words of refusals.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use millrace_model::{SettingError, TimestampType, TopicSettings};

fn resolve(overrides: &[(&str, &str)]) -> Result<TopicSettings, SettingError> {
    let overrides: Vec<_> = overrides
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    TopicSettings::resolve(&TopicSettings::default(), &overrides)
}

#[test]
fn the_defaults() {
    let shown: Vec<_> = TopicSettings::default()
        .entries()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let expected = [
        "cleanup.policy=delete",
        "compression.type=producer",
        "flush.bytes=262144",
        "flush.ms=100",
        "max.message.bytes=1048588",
        "message.timestamp.after.max.ms=3600000",
        "message.timestamp.before.max.ms=9223372036854775807",
        "message.timestamp.type=CreateTime",
        "min.insync.replicas=1",
        "retention.bytes=-1",
        "retention.ms=604800000",
        "segment.bytes=134217728",
        "segment.ms=604800000",
        "write.caching=false",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn each_setting_is_set_and_shown() {
    let values = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("flush.bytes", "1"),
        ("flush.ms", "7"),
        ("max.message.bytes", "4096"),
        ("message.timestamp.after.max.ms", "0"),
        ("message.timestamp.before.max.ms", "5"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("retention.bytes", "0"),
        ("retention.ms", "-1"),
        ("segment.bytes", "65536"),
        ("segment.ms", "60000"),
        ("write.caching", "true"),
    ];
    let settings = resolve(&values).unwrap();
    let shown = settings.entries();
    let shown: Vec<_> = shown
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(shown, values);
    let limits = settings.produce_limits();
    assert_eq!(
        (limits.max_message_bytes, limits.timestamp_type),
        (4096, TimestampType::LogAppendTime)
    );
    assert_eq!(
        (
            limits.timestamp_before_max_ms,
            limits.timestamp_after_max_ms
        ),
        (5, 0)
    );
}

#[test]
fn overrides_stand_on_the_given_defaults() {
    let defaults = resolve(&[("retention.ms", "5"), ("segment.ms", "6")]).unwrap();
    let overrides = [("retention.ms".to_owned(), "7".to_owned())];
    let settings = TopicSettings::resolve(&defaults, &overrides).unwrap();
    assert_eq!((settings.retention_ms, settings.segment_ms), (Some(7), 6));
}

#[test]
fn refusals_say_what_would_be_right() {
    let refused = [
        (
            "retention.mz",
            "1",
            "there is no such setting; the closest is retention.ms",
        ),
        (
            "segment.byte",
            "1",
            "there is no such setting; the closest is segment.bytes",
        ),
        (
            "flush.messages",
            "1",
            "there is no such setting; the closest is flush.bytes",
        ),
        (
            "cleanup.policy",
            "compact",
            "compaction is not served, only delete is",
        ),
        ("cleanup.policy", "shred", "it is delete"),
        (
            "compression.type",
            "zstd",
            "the broker does not recompress, it stores what the producer sent: producer",
        ),
        ("write.caching", "yes", "it is either true or false"),
        (
            "message.timestamp.type",
            "createtime",
            "it is either CreateTime or LogAppendTime",
        ),
        (
            "segment.bytes",
            "65535",
            "it is a whole number from 65536 to 2147483647 bytes",
        ),
        (
            "segment.bytes",
            "1GiB",
            "it is a whole number from 65536 to 2147483647 bytes",
        ),
        (
            "max.message.bytes",
            "67108801",
            "it is a whole number from 1024 to 67108800 bytes, for a frame holds no more",
        ),
        (
            "min.insync.replicas",
            "0",
            "it is a whole number from 1 to 32767 replicas",
        ),
        (
            "retention.ms",
            "-2",
            "it is -1 for no limit, or a whole number from 0 to 9223372036854775807 milliseconds",
        ),
        (
            "segment.ms",
            "",
            "it is a whole number from 1 to 9223372036854775807 milliseconds",
        ),
    ];
    for (name, value, why) in refused {
        let error = resolve(&[(name, value)]).unwrap_err();
        assert_eq!(error.why, why, "{name}={value}");
        assert_eq!(error.to_string(), format!("{name}={value}: {why}"));
    }
}

#[test]
fn a_setting_given_twice_is_refused() {
    let error = resolve(&[("segment.ms", "1"), ("flush.ms", "1"), ("segment.ms", "1")]);
    assert_eq!(error.unwrap_err().why, "it is given twice");
}
