//! `millctl consume`: the records of a topic on standard output, byte for byte, alone or as a member of
//! a group.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use clap::Args;
use millrace_client::{
    Client, ClientError, CommitMode, Consumer, ConsumerOptions, ConsumerRecord, GroupConsumer,
    GroupOptions, OffsetReset, OffsetSpec, PartitionId, RecordHeader,
};
use serde::Serialize;

use super::connect::failure;
use super::exit::Failure;
use super::interrupt::Interrupt;
use super::output::{Output, json};
use super::template::{ESCAPES, Template};
use super::time::parse_timestamp;
use super::topic;
use crate::hex::to_hex;

/// Bytes gathered before they are written: a pipe takes 64 KiB at once, a file more.
const WRITE_LEN: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct Consume {
    /// The topic.
    topic: String,
    /// Where to start: earliest, latest, an offset, or @TIME.
    ///
    /// TIME is in milliseconds since 1970, or as in 2026-11-22T13:29:15Z.
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = parse_from)]
    from: OffsetSpec,
    /// Stop after this many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on with what comes, instead of stopping at what was the end at the start.
    #[arg(long, short)]
    follow: bool,
    /// Only this partition. Records of several partitions come in no order among them.
    #[arg(long)]
    partition: Option<u32>,
    /// Read from replicas in this rack while they are in sync, instead of from the leaders.
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Read as a member of this group, which shares the partitions among its members.
    ///
    /// Begins where the group has left off, and at --from (earliest or latest) where it has committed
    /// nothing. What was printed is committed, in an interval and at the end.
    #[arg(long, value_name = "GROUP", conflicts_with = "partition")]
    group: Option<String>,
    /// Be this static member of the group, whose partitions wait for it while it restarts.
    #[arg(long, value_name = "ID", requires = "group")]
    instance: Option<String>,
    /// Milliseconds between two commits.
    #[arg(long, value_name = "MS", requires = "group", default_value_t = 5_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    commit_interval: u64,
    /// Print each record so, and nothing else, for example '%o %k=%v\n'.
    #[arg(long, value_parser = Template::parse, conflicts_with = "json")]
    #[arg(long_help = format_help())]
    format: Option<Template>,
}

/// How a record becomes bytes.
enum Form {
    Template(Template),
    Json,
}

/// When to stop, besides `--count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// At what was the end of each partition when reading began.
    End,
    /// Never.
    Interrupted,
}

struct Printing<'a> {
    form: Form,
    topic: &'a str,
    buffer: Vec<u8>,
    /// Standard output without the line buffer that the standard library puts before it.
    stdout: File,
}

/// A record as one line of JSON. Bytes that are no UTF-8 are given as hexadecimal digits
/// under another name.
#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: i64,
    #[serde(flatten)]
    key: JsonKey<'a>,
    #[serde(flatten)]
    value: JsonValue<'a>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Serialize)]
enum JsonKey<'a> {
    #[serde(rename = "key")]
    Text(Option<&'a str>),
    #[serde(rename = "key_hex")]
    Bytes(String),
}

#[derive(Serialize)]
enum JsonValue<'a> {
    #[serde(rename = "value")]
    Text(Option<&'a str>),
    #[serde(rename = "value_hex")]
    Bytes(String),
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: String,
    #[serde(flatten)]
    value: JsonValue<'a>,
}

pub(super) async fn run(client: &Client, consume: Consume, output: &Output) -> Result<(), Failure> {
    if consume.count == Some(0) {
        return Ok(());
    }
    let mut source = match &consume.group {
        Some(group) => Source::Member(Box::new(join(client, &consume, group).await?)),
        None => Source::Alone(Box::new(open(client, &consume).await?)),
    };
    let form = match (output.is_json(), consume.format) {
        (true, _) => Form::Json,
        (false, template) => Form::Template(template.unwrap_or_else(Template::value_lines)),
    };
    let until = if consume.follow {
        Until::Interrupted
    } else {
        Until::End
    };
    let stdout = File::from(
        io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Failure::from_stdout(&error))?,
    );
    let mut printing = Printing {
        form,
        topic: &consume.topic,
        buffer: Vec::new(),
        stdout,
    };
    let count = consume.count.unwrap_or(u64::MAX);
    let outcome = print_records(&mut source, &mut printing, until, count).await;
    // What came before an error is printed before it is told.
    printing.write()?;
    if let Source::Member(member) = source {
        let left = member.close().await;
        return outcome.and(left.map_err(|error| failure(&error)));
    }
    outcome
}

async fn open(client: &Client, consume: &Consume) -> Result<Consumer, Failure> {
    let topic = topic::find(client, &consume.topic).await?;
    let mut options = ConsumerOptions::new(&consume.topic).from(consume.from);
    options.rack.clone_from(&consume.rack);
    if let Some(partition) = consume.partition {
        topic::log_of(&topic, partition)?;
        options = options.partitions([PartitionId(partition)]);
    }
    let opened = client.consumer(options).await;
    opened.map_err(|error| failure(&error))
}

async fn join(client: &Client, consume: &Consume, group: &str) -> Result<GroupConsumer, Failure> {
    topic::find(client, &consume.topic).await?;
    let offset_reset = match consume.from {
        OffsetSpec::Earliest => OffsetReset::Earliest,
        OffsetSpec::Latest => OffsetReset::Latest,
        OffsetSpec::At(_) | OffsetSpec::Timestamp(_) => {
            return Err(Failure::usage(
                "a group starts where it has left off, else at --from earliest or latest; \
                 `millctl group reset-offsets` sends it elsewhere",
            ));
        }
    };
    let options = GroupOptions {
        instance: consume.instance.clone(),
        rack: consume.rack.clone(),
        client_id: "millctl".to_owned(),
        commit: CommitMode::Every(Duration::from_millis(consume.commit_interval)),
        offset_reset,
        ..GroupOptions::new(group).topic(&consume.topic)
    };
    let joined = client.group_consumer(options).await;
    joined.map_err(|error| failure(&error))
}

async fn print_records(
    source: &mut Source,
    printing: &mut Printing<'_>,
    until: Until,
    count: u64,
) -> Result<(), Failure> {
    let interrupt = Interrupt::listen();
    let mut left = count;
    let mut records = Vec::new();
    while left > 0 && !interrupt.is_pressed() {
        let max = usize::try_from(left).unwrap_or(usize::MAX);
        if matches!(source, Source::Member(_)) {
            // Asking for more says that these are processed.
            printing.write()?;
        }
        records.clear();
        let ready = poll_once(source.next(until, max, &mut records));
        let come = if let Some(ready) = ready {
            ready
        } else {
            // Nothing more is here: a reader need not wait for what has come.
            printing.write()?;
            tokio::select! {
                come = source.next(until, max, &mut records) => come,
                () = interrupt.pressed() => break,
            }
        };
        come.map_err(|error| failure(&error))?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            printing.print(record)?;
        }
        left -= records.len() as u64;
    }
    if left > 0 {
        Err(Failure::interrupted())
    } else {
        Ok(())
    }
}

/// Where records come from.
enum Source {
    Alone(Box<Consumer>),
    Member(Box<GroupConsumer>),
}

impl Source {
    /// Adds the next records, at most `max`; none at the end.
    async fn next(
        &mut self,
        until: Until,
        max: usize,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<(), ClientError> {
        match (self, until) {
            (Self::Alone(consumer), Until::End) => {
                records.extend(consumer.next_before_end().await?);
            }
            (Self::Alone(consumer), Until::Interrupted) => records.push(consumer.next().await?),
            (Self::Member(member), until) => {
                let batch = match until {
                    Until::End => member.next_batch_before_end(max).await?,
                    Until::Interrupted => member.next_batch(max).await?,
                };
                records.extend(batch.into_iter().map(|record| record.record));
            }
        }
        Ok(())
    }
}

/// What the future has to give at once.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    // Without the runtime's budget, which now and then says "not now" of what is there.
    let future = pin!(tokio::task::unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}

impl Printing<'_> {
    fn print(&mut self, record: &ConsumerRecord) -> Result<(), Failure> {
        match &self.form {
            Form::Template(template) => template.render(self.topic, record, &mut self.buffer),
            Form::Json => {
                self.buffer
                    .extend_from_slice(json(&JsonRecord::of(self.topic, record)).as_bytes());
                self.buffer.push(b'\n');
            }
        }
        if self.buffer.len() >= WRITE_LEN {
            self.write()
        } else {
            Ok(())
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let written = self.stdout.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| Failure::from_stdout(&error))
    }
}

impl<'a> JsonRecord<'a> {
    fn of(topic: &'a str, record: &'a ConsumerRecord) -> Self {
        let header = |header: &'a RecordHeader| JsonHeader {
            key: String::from_utf8_lossy(&header.key).into_owned(),
            value: JsonValue::of(header.value.as_deref()),
        };
        let key = match record.key.as_deref().map(str::from_utf8) {
            None => JsonKey::Text(None),
            Some(Ok(text)) => JsonKey::Text(Some(text)),
            Some(Err(_)) => JsonKey::Bytes(to_hex(record.key.as_deref().unwrap_or_default())),
        };
        Self {
            topic,
            partition: record.partition.0,
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key,
            value: JsonValue::of(record.value.as_deref()),
            headers: record.headers.iter().map(header).collect(),
        }
    }
}

impl<'a> JsonValue<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::Text(None);
        };
        str::from_utf8(bytes).map_or_else(|_| Self::Bytes(to_hex(bytes)), |t| Self::Text(Some(t)))
    }
}

fn parse_from(text: &str) -> Result<OffsetSpec, String> {
    match text {
        "earliest" => return Ok(OffsetSpec::Earliest),
        "latest" => return Ok(OffsetSpec::Latest),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return parse_timestamp(time).map(OffsetSpec::Timestamp);
    }
    let offset = text.parse().map(OffsetSpec::At);
    offset.map_err(|_| format!("'{text}' is none of earliest, latest, an offset and @TIME"))
}

fn format_help() -> String {
    format!(
        "Print each record so, and nothing else, for example '%o %k=%v\\n'.\n\n{ESCAPES}.\n\n\
         Without it, the value and a newline."
    )
}

#[cfg(test)]
mod tests {
    use millrace_client::{Offset, Timestamp};

    use super::*;

    #[test]
    fn where_to_start_is_parsed() {
        let cases = [
            ("earliest", OffsetSpec::Earliest),
            ("latest", OffsetSpec::Latest),
            ("42", OffsetSpec::At(Offset(42))),
            (
                "@1700000000000",
                OffsetSpec::Timestamp(Timestamp(1_700_000_000_000)),
            ),
            (
                "@2023-11-14T22:13:20Z",
                OffsetSpec::Timestamp(Timestamp(1_700_000_000_000)),
            ),
        ];
        for (text, from) in cases {
            assert_eq!(parse_from(text), Ok(from), "{text}");
        }
        for text in ["", "-1", "begin", "@", "@now"] {
            assert!(parse_from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_tells_null_from_empty_and_keeps_every_byte() {
        let text = |value| json(&JsonValue::of(value));
        assert_eq!(text(None), r#"{"value":null}"#);
        assert_eq!(text(Some(b"")), r#"{"value":""}"#);
        assert_eq!(text(Some(b"a\"b")), r#"{"value":"a\"b"}"#);
        assert_eq!(text(Some(b"\xff\x00")), r#"{"value_hex":"ff00"}"#);
    }

    #[test]
    fn what_is_not_ready_is_not_waited_for() {
        assert_eq!(poll_once(async { 1 }), Some(1));
        assert_eq!(poll_once(std::future::pending::<u8>()), None);
    }
}
