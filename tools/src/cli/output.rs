//! Results on standard output: tables for people, JSON for programs.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::exit::Failure;

/// Standard output in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON or text.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: as one line of JSON, or the text that `text` makes of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn result<T: Serialize>(
        &self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = if self.json {
            json(result)
        } else {
            text(result)
        };
        if !line.is_empty() && !line.ends_with('\n') {
            line.push('\n');
        }
        self.bytes(line.as_bytes())
    }

    /// Writes these bytes as they are.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::from_stdout(&error))
    }
}

/// One line of JSON.
///
/// # Panics
/// Never for the types of this crate, whose maps have text as keys.
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("results have text as keys and no failing part")
}

/// A table: columns as wide as their widest cell, the first row being the heading. Numbers
/// stand to the right, and dashes for numbers that there are none of.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let widths: Vec<usize> = (0..columns)
        .map(|c| cells(c).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let numeric: Vec<bool> = (0..columns)
        .map(|c| {
            let has_digits = |cell: &String| cell.bytes().any(|b| b.is_ascii_digit());
            let all = cells(c).skip(1).all(|cell| is_number(cell));
            all && cells(c).skip(1).any(has_digits)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&numeric) {
            let padded = if *right {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            line.push_str(&padded);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn is_number(cell: &str) -> bool {
    !cell.is_empty()
        && cell
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// Prints why a command failed to standard error.
pub fn print_failure(failure: &Failure, as_json: bool) {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
        exit_code: u8,
    }

    if failure.message.is_empty() {
        return;
    }
    let line = if as_json {
        json(&Error {
            error: &failure.message,
            exit_code: failure.exit as u8,
        })
    } else if io::stderr().is_terminal() {
        format!("\x1b[1;31merror:\x1b[0m {failure}")
    } else {
        format!("error: {failure}")
    };
    note(&line);
}

/// Prints a line to standard error. One that is closed is nobody's problem.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let rows = [
            row(["NAME", "PARTITIONS", "ID"]),
            row(["a", "12", "x1"]),
            row(["long-name", "3", ""]),
        ];
        let expected = "\
NAME       PARTITIONS  ID
a                  12  x1
long-name           3
";
        assert_eq!(table(&rows), expected);
        let rows = [
            row(["A", "BBB", "CCC"]),
            row(["-", "-", "1"]),
            row(["-", "2", "3"]),
        ];
        let expected = "\
A  BBB  CCC
-    -    1
-    2    3
";
        assert_eq!(table(&rows), expected);
        assert_eq!(table(&[]), "");
    }
}
