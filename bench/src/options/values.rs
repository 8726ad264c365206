//! Values as they stand on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::measure::Quantile;

/// Sizes that a record's value may have, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest.
    pub from: usize,
    /// The largest.
    pub to: usize,
}

impl SizeRange {
    /// Whether all values have one size.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.from == self.to
    }

    /// The size in the middle.
    #[must_use]
    pub fn mean(&self) -> u64 {
        (self.from as u64 + self.to as u64).div_ceil(2)
    }
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let size = |text| usize::try_from(bytes(text)?).map_err(|error| error.to_string());
        let range = Self {
            from: size(from)?,
            to: size(to)?,
        };
        if range.from == 0 {
            return Err("a record has one byte or more".to_owned());
        }
        if range.from > range.to {
            return Err(format!("{from} is more than {to}"));
        }
        Ok(range)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_fixed() {
            true => write!(f, "{}", self.from),
            false => write!(f, "{}..{}", self.from, self.to),
        }
    }
}

/// How many connections the clients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// This many, shared.
    Shared(usize),
    /// One for each client.
    Each,
}

impl FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("each", _) => Ok(Self::Each),
            (_, Ok(number)) if number > 0 => Ok(Self::Shared(number)),
            _ => Err("neither `each` nor a number from 1 on".to_owned()),
        }
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(number) => write!(f, "{number}"),
            Self::Each => f.write_str("each"),
        }
    }
}

/// What values are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Bytes that do not compress.
    Random,
    /// Words, which do.
    Text,
    /// The bytes of a file, one piece after the other.
    File(PathBuf),
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("random", _) => Ok(Self::Random),
            ("text", _) => Ok(Self::Text),
            (_, Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("it is `random`, `text` or `file:PATH`".to_owned()),
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Text => f.write_str("text"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("it is NAME=VALUE, for example retention.ms=60000".to_owned()),
        }
    }
}

/// The longest that a latency may be at one quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Where it is looked at.
    pub quantile: Quantile,
    /// The longest there.
    pub latency: Duration,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (quantile, bound) = text
            .split_once('=')
            .ok_or("it is QUANTILE=BOUND, for example p99=10ms")?;
        let bound = Self {
            quantile: quantile.parse()?,
            latency: duration(bound)?,
        };
        match bound.latency.is_zero() {
            true => Err("no latency keeps a bound of nothing".to_owned()),
            false => Ok(bound),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.quantile, self.latency)
    }
}

/// A time in which nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it begins.
    pub after: Duration,
    /// How long it is.
    pub length: Duration,
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (after, length) = text
            .split_once('+')
            .ok_or("it is AFTER+LENGTH, for example 2s+1s")?;
        Ok(Self {
            after: duration(after)?,
            length: duration(length)?,
        })
    }
}

/// `500us`, `250ms`, `10s`, `5m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a duration"))?;
    let seconds = match &text[digits.len()..] {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("{unit:?} is not us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `4096`, `64KiB`, `256MiB`, `10GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size"))?;
    let shift = match &text[digits.len()..] {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("{unit:?} is not KiB, MiB or GiB")),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("80us"), Ok(Duration::from_micros(80)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("2 fortnights").is_err());
        assert!(duration("-1s").is_err());
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert!(bytes("2GB").is_err());
        assert!(bytes("99999999999GiB").is_err());
    }

    #[test]
    fn a_size_is_one_or_a_range() {
        let range = |from, to| Ok(SizeRange { from, to });
        assert_eq!("100..2KiB".parse(), range(100, 2048));
        assert_eq!("1KiB".parse(), range(1024, 1024));
        for wrong in ["0", "2..1", "0..5", "..", "1..", "a", "1..2..3"] {
            assert!(wrong.parse::<SizeRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_is_what_is_parsed() {
        let again = |text: &str| text.parse::<Payload>().map(|of| of.to_string());
        for text in ["random", "text", "file:/tmp/a=b"] {
            assert_eq!(again(text).as_deref(), Ok(text));
        }
        assert!(again("file:").is_err() && again("words").is_err());
        let again = |text: &str| text.parse::<Connections>().map(|of| of.to_string());
        assert_eq!(again("each").as_deref(), Ok("each"));
        assert_eq!(again("10").as_deref(), Ok("10"));
        assert!(again("0").is_err() && again("all").is_err());
        let again = |text: &str| text.parse::<Bound>().map(|of| of.to_string());
        assert_eq!(again("p99.9=10ms").as_deref(), Ok("p99.9=10ms"));
        for wrong in [
            "p99", "10ms", "p101=1s", "p=1s", "99=1s", "p99=0", "p99=-1s",
        ] {
            assert!(again(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_and_stalls_have_two_parts() {
        let setting: Setting = "a.b=c=d".parse().unwrap();
        assert_eq!((&*setting.name, &*setting.value), ("a.b", "c=d"));
        assert!("=c".parse::<Setting>().is_err() && "a".parse::<Setting>().is_err());
        let stall: Stall = "2s+500ms".parse().unwrap();
        assert_eq!(stall.length, Duration::from_millis(500));
        assert!("2s".parse::<Stall>().is_err());
    }
}
