//! `millctl log dump`: what stands in the files, one thing a line.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;

use millrace_model::{Decompressor, Frame, MAX_FRAME_LEN, Record};
use millrace_storage::read_only::Found;
use millrace_storage::{FrameSummary, Item};
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use super::directories::{LogDirectory, Logs};
use super::look;
use crate::hex::to_hex;

/// Characters of a value that the text form shows.
const SHOWN_VALUE_LEN: usize = 60;

pub(super) fn run(logs: &Logs, records: bool, output: &Output) -> Result<(), Failure> {
    let mut dump = Dump {
        out: BufWriter::new(io::stdout()),
        json: output.is_json(),
        records,
        scratch: Decompressor::new(),
        error: None,
    };
    for log in &logs.logs {
        if !dump.json {
            dump.write(&format!("log {}", log.id));
        }
        look(log, |file, found| dump.visit(log, file, &found))?;
        if let Some(error) = dump.error.take() {
            return Err(error);
        }
    }
    dump.out
        .flush()
        .map_err(|error| Failure::from_stdout(&error))
}

struct Dump {
    out: BufWriter<io::Stdout>,
    json: bool,
    records: bool,
    scratch: Decompressor,
    /// The first failure; nothing is printed after it.
    error: Option<Failure>,
}

impl Dump {
    fn visit(&mut self, log: &LogDirectory, file: &str, found: &Found) {
        if self.error.is_some() {
            return;
        }
        let line = if self.json {
            let mut line = as_json(found);
            line["log"] = log.id.to_string().into();
            line["file"] = file.into();
            line.to_string()
        } else {
            as_text(file, found)
        };
        self.write(&line);
        if let (
            true,
            Found::Item {
                position,
                item: Item::Frame(frame),
            },
        ) = (self.records, found)
            && let Err(error) = self.print_records(log, file, position.0, frame)
        {
            self.error.get_or_insert(error);
        }
    }

    fn print_records(
        &mut self,
        log: &LogDirectory,
        file: &str,
        position: u64,
        frame: &FrameSummary,
    ) -> Result<(), Failure> {
        let other = |what: String| Failure::new(Exit::Other, format!("{file}: {what}"));
        let mut bytes = vec![0; frame.len];
        File::open(log.path.join(file))
            .and_then(|opened| opened.read_exact_at(&mut bytes, position))
            .map_err(|error| other(error.to_string()))?;
        let frame = Frame::check_stored(&bytes, log.id.checksum_seed())
            .map_err(|error| other(error.to_string()))?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let batch = frame.batch();
        let records = batch
            .records(&mut scratch, MAX_FRAME_LEN)
            .map_err(|error| other(error.to_string()))?;
        for record in records {
            let record = record.map_err(|error| other(error.to_string()))?;
            let line = if self.json {
                record_json(&record)
            } else {
                record_text(&record)
            };
            self.write(&line);
        }
        self.scratch = scratch;
        Ok(())
    }

    fn write(&mut self, line: &str) {
        let written = writeln!(self.out, "{line}");
        if let (Err(error), None) = (written, &self.error) {
            self.error = Some(Failure::from_stdout(&error));
        }
    }
}

fn as_text(file: &str, found: &Found) -> String {
    match found {
        Found::Start {
            log_start,
            truncate_to: None,
        } => format!("{file}: starts at {log_start}"),
        Found::Start {
            log_start,
            truncate_to: Some(to),
        } => {
            format!("{file}: starts at {log_start}; a truncation to {to} was begun")
        }
        Found::Segment { base, file_len } => {
            format!("{file}: {file_len} bytes, first offset {base}")
        }
        Found::Item {
            position,
            item: Item::Write(write),
        } => format!(
            "{:>12}  write   {} bytes of frames, next offset {}, durable below {}, epoch {}, at {}",
            position.0,
            write.frames_len,
            write.next_offset,
            write.durable_end,
            write.leader_epoch,
            write.timestamp
        ),
        Found::Item {
            position,
            item: Item::Frame(frame),
        } => {
            format!("{:>12}  frame   {}", position.0, frame_text(frame))
        }
        Found::Sealed {
            position,
            next,
            index,
            epochs,
            producers,
            ..
        } => format!(
            "{:>12}  footer  next offset {next}, {} index entries, {} epochs, {producers} producers",
            position.0,
            index.len(),
            epochs.len()
        ),
        Found::End {
            position,
            next,
            stop,
            torn,
        } => format!(
            "{:>12}  end     next offset {next}: {stop}{}",
            position.0,
            if *torn {
                "; remains of a write that was never acknowledged follow"
            } else {
                ""
            }
        ),
        Found::Problem { position, reason } => format!("{:>12}  DAMAGE  {reason}", position.0),
    }
}

fn frame_text(frame: &FrameSummary) -> String {
    let mut text = format!(
        "offsets {} to {}, {} records, {} bytes, epoch {}, timestamps up to {}",
        frame.base,
        frame.next.0 - 1,
        frame.records,
        frame.len,
        frame.epoch,
        frame.max_timestamp
    );
    if let Some(producer) = &frame.producer {
        text.push_str(&format!(
            ", producer {} epoch {} sequences {} to {}",
            producer.id, producer.epoch, producer.first, producer.last
        ));
    }
    text
}

fn as_json(found: &Found) -> Value {
    match found {
        Found::Start {
            log_start,
            truncate_to,
        } => json!({
            "kind": "log_start",
            "log_start": log_start.0,
            "truncate_to": truncate_to.map(|to| to.0),
        }),
        Found::Segment { base, file_len } => {
            json!({ "kind": "segment", "base_offset": base.0, "bytes": file_len })
        }
        Found::Item {
            position,
            item: Item::Write(write),
        } => json!({
            "kind": "write",
            "position": position.0,
            "frames_bytes": write.frames_len,
            "next_offset": write.next_offset.0,
            "durable_end": write.durable_end.0,
            "leader_epoch": write.leader_epoch.0,
            "timestamp": write.timestamp.0,
        }),
        Found::Item {
            position,
            item: Item::Frame(frame),
        } => json!({
            "kind": "frame",
            "position": position.0,
            "base_offset": frame.base.0,
            "next_offset": frame.next.0,
            "records": frame.records,
            "bytes": frame.len,
            "leader_epoch": frame.epoch.0,
            "max_timestamp": frame.max_timestamp.0,
            "append_timestamp": frame.append_timestamp.0,
            "producer": frame.producer.map(|producer| json!({
                "id": producer.id.0,
                "epoch": producer.epoch.0,
                "first_sequence": producer.first.0,
                "last_sequence": producer.last.0,
            })),
        }),
        Found::Sealed {
            position,
            next,
            max_timestamp,
            sealed_at,
            index,
            epochs,
            producers,
        } => {
            json!({
                "kind": "footer",
                "position": position.0,
                "next_offset": next.0,
                "max_timestamp": max_timestamp.0,
                "sealed_at": sealed_at.0,
                "index_entries": index.len(),
                "epochs": epochs.len(),
                "producers": producers,
            })
        }
        Found::End {
            position,
            next,
            stop,
            torn,
        } => json!({
            "kind": "end",
            "position": position.0,
            "next_offset": next.0,
            "reason": stop.to_string(),
            "torn": torn,
        }),
        Found::Problem { position, reason } => {
            json!({ "kind": "problem", "position": position.0, "reason": reason })
        }
    }
}

fn record_text(record: &Record<'_>) -> String {
    let shown = |bytes: Option<&[u8]>| {
        bytes.map_or_else(
            || "null".to_owned(),
            |bytes| {
                let shown = bytes.escape_ascii().to_string();
                match shown.char_indices().nth(SHOWN_VALUE_LEN) {
                    Some((at, _)) => format!("'{}...' ({} bytes)", &shown[..at], bytes.len()),
                    None => format!("'{shown}'"),
                }
            },
        )
    };
    format!(
        "{:>12}  record  offset {}, timestamp {}, key {}, value {}, {} headers",
        "",
        record.offset,
        record.timestamp,
        shown(record.key),
        shown(record.value),
        record.headers().count()
    )
}

fn record_json(record: &Record<'_>) -> String {
    let headers: Vec<Value> = record
        .headers()
        .map(|header| json!({ "key_hex": to_hex(header.key), "value_hex": header.value.map(to_hex) }))
        .collect();
    json!({
        "kind": "record",
        "offset": record.offset.0,
        "timestamp": record.timestamp.0,
        "key_hex": record.key.map(to_hex),
        "value_hex": record.value.map(to_hex),
        "headers": headers,
    })
    .to_string()
}
