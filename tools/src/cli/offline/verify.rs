//! `millctl log verify`: every byte of the files, checked as the broker checks it, and more:
//! also what a start of the broker would take from a footer without looking.

use millrace_storage::read_only::Found;
use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::super::output::{Output, table};
use super::directories::{LogDirectory, Logs};
use super::look;

#[derive(Debug, Serialize)]
struct Verified {
    log: String,
    segments: usize,
    frames: u64,
    records: u64,
    bytes: u64,
    next_offset: u64,
    /// Remains of a write that was never acknowledged. The next start cuts them.
    torn_tail: bool,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    file: String,
    position: u64,
    reason: String,
}

pub(super) fn run(logs: &Logs, output: &Output) -> Result<(), Failure> {
    let verified: Vec<Verified> = logs.logs.iter().map(verify).collect::<Result<_, _>>()?;
    output.result(&verified, |verified| text(verified))?;
    let mut damaged = verified.iter().filter(|log| !log.problems.is_empty());
    let Some(first) = damaged.next() else {
        return Ok(());
    };
    let Problem {
        file,
        position,
        reason,
    } = &first.problems[0];
    Err(Failure::new(
        Exit::Damage,
        format!(
            "{} of {} logs are damaged, first {} in {file} at byte {position}: {reason}; the \
             broker serves what comes before and refuses the rest: restore the file from a copy",
            damaged.count() + 1,
            verified.len(),
            first.log
        ),
    ))
}

fn verify(log: &LogDirectory) -> Result<Verified, Failure> {
    let (mut problems, mut torn_tail, mut next_offset) = (Vec::new(), false, 0);
    let summary = look(log, |file, found| match found {
        Found::Problem { position, reason } => {
            problems.push(Problem {
                file: file.to_owned(),
                position: position.0,
                reason,
            });
        }
        Found::End { next, torn, .. } => (next_offset, torn_tail) = (next.0, torn),
        Found::Sealed { next, .. } => next_offset = next.0,
        Found::Start { .. } | Found::Segment { .. } | Found::Item { .. } => {}
    })?;
    Ok(Verified {
        log: log.id.to_string(),
        segments: summary.segments,
        frames: summary.frames,
        records: summary.records,
        bytes: summary.bytes,
        next_offset,
        torn_tail,
        problems,
    })
}

fn text(verified: &[Verified]) -> String {
    let heading = [
        "LOG",
        "SEGMENTS",
        "FRAMES",
        "RECORDS",
        "BYTES",
        "NEXT OFFSET",
        "STATE",
    ];
    let row = |log: &Verified| {
        let state = match (log.problems.len(), log.torn_tail) {
            (0, false) => "whole".into(),
            (0, true) => "whole, with remains of a write that was never acknowledged".into(),
            (1, _) => "1 problem".into(),
            (problems, _) => format!("{problems} problems"),
        };
        vec![
            log.log.clone(),
            log.segments.to_string(),
            log.frames.to_string(),
            log.records.to_string(),
            log.bytes.to_string(),
            log.next_offset.to_string(),
            state,
        ]
    };
    let heading = heading.map(String::from).to_vec();
    let mut text = table(
        &std::iter::once(heading)
            .chain(verified.iter().map(row))
            .collect::<Vec<_>>(),
    );
    for log in verified {
        for Problem {
            file,
            position,
            reason,
        } in &log.problems
        {
            text.push_str(&format!(
                "{}/{file} at byte {position}: {reason}\n",
                log.log
            ));
        }
    }
    text
}
