//! What `millctl consume --format` prints for a record: a template, parsed once.
//!
//! Nothing is added: no newline, no escaping, no re-encoding. A null key or value prints as
//! nothing; `--json` tells it from an empty one.

use millrace_client::{ConsumerRecord, RecordHeader};

/// How the parts of a template are written, for `--help`.
pub const ESCAPES: &str = "%k key, %v value, %o offset, %p partition, %t timestamp in ms, %h headers as k=v,k=v, \
     %T topic, %% a percent sign; \\n newline, \\t tab, \\r carriage return, \\0 zero byte, \
     \\xHH any byte, \\\\ a backslash";

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Key,
    Value,
    Offset,
    Partition,
    Timestamp,
    Headers,
    Topic,
}

impl Template {
    /// The value and a newline: what `consume` prints when nothing else is asked for.
    #[must_use]
    pub fn value_lines() -> Self {
        Self(vec![Part::Value, Part::Literal(b"\n".to_vec())])
    }

    /// The template that `text` describes; see [`ESCAPES`].
    ///
    /// # Errors
    /// A sentence that names the escape that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => literal.push(escaped_byte(&mut bytes)?),
                b'%' => match placeholder(bytes.next())? {
                    Some(part) => {
                        if !literal.is_empty() {
                            parts.push(Part::Literal(std::mem::take(&mut literal)));
                        }
                        parts.push(part);
                    }
                    None => literal.push(b'%'),
                },
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Appends what the template makes of a record of `topic` to `out`.
    pub fn render(&self, topic: &str, record: &ConsumerRecord, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Part::Offset => push_number(record.offset, out),
                Part::Partition => push_number(record.partition, out),
                Part::Timestamp => push_number(record.timestamp, out),
                Part::Headers => push_headers(&record.headers, out),
                Part::Topic => out.extend_from_slice(topic.as_bytes()),
            }
        }
    }
}

fn push_number(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(out, "{number}").expect("a vector takes every byte");
}

fn push_headers(headers: &[RecordHeader], out: &mut Vec<u8>) {
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&header.key);
        out.push(b'=');
        out.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
}

fn placeholder(letter: Option<u8>) -> Result<Option<Part>, String> {
    Ok(Some(match letter {
        Some(b'%') => return Ok(None),
        Some(b'k') => Part::Key,
        Some(b'v') => Part::Value,
        Some(b'o') => Part::Offset,
        Some(b'p') => Part::Partition,
        Some(b't') => Part::Timestamp,
        Some(b'h') => Part::Headers,
        Some(b'T') => Part::Topic,
        Some(other) => return Err(unknown('%', other)),
        None => return Err("the format ends in the middle of a % escape".into()),
    }))
}

fn escaped_byte(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    Ok(match bytes.next() {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
            let value = value.ok_or("\\x needs two hexadecimal digits, as in \\x1f")?;
            u8::try_from(value).expect("two hexadecimal digits are a byte")
        }
        Some(other) => return Err(unknown('\\', other)),
        None => return Err("the format ends in the middle of a \\ escape".into()),
    })
}

fn unknown(lead: char, byte: u8) -> String {
    format!(
        "{lead}{} is no escape; there are {ESCAPES}",
        char::from(byte)
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millrace_client::{Offset, PartitionId, Timestamp};

    use super::*;

    fn record() -> ConsumerRecord {
        let header = |key: &'static [u8], value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
        };
        ConsumerRecord {
            partition: PartitionId(3),
            offset: Offset(42),
            timestamp: Timestamp(-1),
            key: Some(Bytes::from_static(b"k\xff")),
            value: Some(Bytes::from_static(b"v%v\n")),
            headers: vec![
                header(b"a", Some(b"1")),
                header(b"a", None),
                header(b"b", Some(b"x,y")),
            ],
        }
    }

    fn render(template: &str, record: &ConsumerRecord) -> Vec<u8> {
        let mut out = Vec::new();
        Template::parse(template)
            .unwrap()
            .render("orders", record, &mut out);
        out
    }

    #[test]
    fn every_escape_prints_its_part_byte_for_byte() {
        let cases: [(&str, &[u8]); 8] = [
            ("", b""),
            ("plain \u{fc}", "plain \u{fc}".as_bytes()),
            ("%k|%v|", b"k\xff|v%v\n|"),
            ("%T-%p@%o %t", b"orders-3@42 -1"),
            ("[%h]", b"[a=1,a=,b=x,y]"),
            ("100%%\\n", b"100%\n"),
            ("\\t\\r\\0\\\\\\x1F\\xff", b"\t\r\0\\\x1f\xff"),
            ("%%v", b"%v"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &record()), expected, "{template}");
        }
    }

    #[test]
    fn null_prints_as_nothing() {
        let record = ConsumerRecord {
            key: None,
            value: None,
            headers: vec![],
            ..record()
        };
        assert_eq!(render("<%k%v%h>", &record), b"<>");
    }

    #[test]
    fn the_default_is_the_value_and_a_newline() {
        assert_eq!(Template::value_lines(), Template::parse("%v\\n").unwrap());
    }

    #[test]
    fn unknown_and_unfinished_escapes_are_refused() {
        for template in ["%", "%x", "\\", "\\q", "\\x1", "\\xgg", "a%"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
