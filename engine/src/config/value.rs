//! The types of values, each with its text form. A bare number is in the unit of the key's
//! name (bytes or milliseconds), as in Kafka; a suffix states another.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use millrace_model::ShardCount;

/// A value that a key can have.
pub(super) trait Setting: Sized {
    /// The value that `text` states.
    ///
    /// # Errors
    /// What would have been a legal value, as a phrase.
    fn parse(text: &str) -> Result<Self, &'static str>;

    /// The value as Kafka shows one: sizes in bytes, times in milliseconds. A period that is no whole
    /// number of them keeps its unit.
    fn text(&self) -> String;
}

/// A number of bytes: `1048576`, `64KiB`, `64MiB`, `1GiB`, `1TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size as a length in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for ByteSize {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const UNITS: [(&str, u64); 4] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        number_in(text, &UNITS, 1)
            .map(Self)
            .ok_or("a number of bytes, for example 1048576 or 64MiB")
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A span of time: `1500` milliseconds, `100us`, `30s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// The period in milliseconds, as Kafka counts.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Setting for Period {
    fn parse(text: &str) -> Result<Self, &'static str> {
        // "ms" and "us" before "s": the first suffix that fits is taken.
        const UNITS: [(&str, u64); 6] = [
            ("ms", 1_000),
            ("us", 1),
            ("s", 1_000_000),
            ("m", 60_000_000),
            ("h", 3_600_000_000),
            ("d", 86_400_000_000),
        ];
        number_in(text, &UNITS, 1_000)
            .map(|micros| Self(Duration::from_micros(micros)))
            .ok_or("a number of milliseconds, or for example 100us, 30s, 5m, 2h, 7d")
    }

    fn text(&self) -> String {
        match self.0.subsec_nanos() % 1_000_000 {
            0 => self.as_millis().to_string(),
            _ => format!("{}us", self.0.as_micros()),
        }
    }
}

/// A value, or -1 for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlimited<T> {
    /// No limit.
    Unlimited,
    /// This limit.
    Limit(T),
}

impl<T: Setting> Setting for Unlimited<T> {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "-1" {
            Ok(Self::Unlimited)
        } else {
            T::parse(text).map(Self::Limit)
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unlimited => "-1".to_owned(),
            Self::Limit(limit) => limit.text(),
        }
    }
}

/// An address to listen on, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener(pub Option<SocketAddr>);

impl Setting for Listener {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "none" => Ok(Self(None)),
            _ => text.parse().map(|address| Self(Some(address))).map_err(
                |_| "an address and a port, for example 127.0.0.1:9645 or [::]:9645, or none",
            ),
        }
    }

    fn text(&self) -> String {
        self.0
            .map_or_else(|| "none".to_owned(), |address| address.to_string())
    }
}

/// A host name or address with a port, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised(pub Option<(String, u16)>);

impl Setting for Advertised {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const LEGAL: &str = "a host and a port, for example broker-1.example.com:9092, or none";
        if text == "none" {
            return Ok(Self(None));
        }
        // As in Kafka's configurations, whose listeners have a protocol.
        let address = text.strip_prefix("PLAINTEXT://").unwrap_or(text);
        host_and_port(address)
            .map(|named| Self(Some(named)))
            .ok_or(LEGAL)
    }

    fn text(&self) -> String {
        match &self.0 {
            None => "none".to_owned(),
            Some((host, port)) => host_and_port_text(host, *port),
        }
    }
}

/// `text` as a host name or an address, the latter without its brackets, and a port.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_legal = |host: &str| {
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match bare {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Some((v6.to_owned(), port)),
        None if is_legal(host) && !host.contains([':', '[', ']', '@', ',']) => {
            Some((host.to_owned(), port))
        }
        _ => None,
    }
}

/// What [`host_and_port`] reads as these.
pub(super) fn host_and_port_text(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// A path, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalPath(pub Option<PathBuf>);

impl Setting for OptionalPath {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "" => Err("a path, or none"),
            "none" => Ok(Self(None)),
            _ => Ok(Self(Some(PathBuf::from(text)))),
        }
    }

    fn text(&self) -> String {
        self.0
            .as_ref()
            .map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    }
}

/// How many shards to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One for each core that this process may use.
    All,
    /// This many, on the first cores.
    Count(ShardCount),
}

impl Cores {
    /// The number of shards where `available` cores may be used. `All` stops at 255.
    #[must_use]
    pub fn shards(self, available: usize) -> ShardCount {
        match self {
            Self::Count(count) => count,
            Self::All => u8::try_from(available).map_or(NonZeroU8::MAX, |cores| {
                NonZeroU8::new(cores).unwrap_or(NonZeroU8::MIN)
            }),
        }
    }
}

impl Setting for Cores {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::Count)
                .map_err(|_| "a number from 1 to 255, or all"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Count(count) => count.to_string(),
        }
    }
}

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskMode {
    /// O_DIRECT, past the page cache.
    Direct,
    /// Through the page cache: for development on file systems without O_DIRECT.
    Buffered,
}

impl Setting for DiskMode {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "direct" => Ok(Self::Direct),
            "buffered" => Ok(Self::Buffered),
            _ => Err("direct or buffered"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
        .to_owned()
    }
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl Setting for LogFormat {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("a path")
        } else {
            Ok(Self::from(text))
        }
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for SocketAddr {
    fn parse(text: &str) -> Result<Self, &'static str> {
        text.parse()
            .map_err(|_| "an address and a port, for example 0.0.0.0:9644 or [::]:9644")
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Setting for bool {
    fn parse(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "true or false")
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            Err("some text")
        } else {
            Ok(text.to_owned())
        }
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Setting for u32 {
    fn parse(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "a number from 0 to 4294967295")
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn parse(text: &str) -> Result<Self, &'static str> {
        text.parse()
            .map_err(|_| "a number from 0 to 18446744073709551615")
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroU32 {
    fn parse(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(|_| "a number from 1 to 4294967295")
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// `text` as a whole number of the smallest unit: `bare` of them a unit without suffix.
fn number_in(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let (digits, factor) = units
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
        .unwrap_or((text, bare));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn sizes_and_periods_take_units() {
        assert_eq!(ByteSize::parse("1048588"), Ok(ByteSize(1_048_588)));
        assert_eq!(ByteSize::parse("64MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(
            Period::parse("1500"),
            Ok(Period(Duration::from_millis(1500)))
        );
        assert_eq!(
            Period::parse("100us"),
            Ok(Period(Duration::from_micros(100)))
        );
        assert_eq!(
            Period::parse("250ms"),
            Ok(Period(Duration::from_millis(250)))
        );
        assert_eq!(
            Period::parse("7d"),
            Ok(Period(Duration::from_secs(7 * 86_400)))
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "MiB",
            "-5",
            "+5",
            "1.5MiB",
            "64 MiB",
            "64MB",
            "99999999999999999999",
        ] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        assert!(
            ByteSize::parse("18446744073709551615TiB").is_err(),
            "overflow"
        );
        assert!(Period::parse("-1").is_err());
        assert_eq!(Unlimited::<Period>::parse("-1"), Ok(Unlimited::Unlimited));
        assert!(Unlimited::<Period>::parse("-2").is_err());
    }

    #[test]
    fn all_cores_stay_within_what_a_connection_id_can_name() {
        assert_eq!(Cores::parse("all").unwrap().shards(2).get(), 2);
        assert_eq!(Cores::All.shards(1000).get(), 255);
        assert_eq!(Cores::All.shards(0).get(), 1);
        assert_eq!(Cores::parse("3").unwrap().shards(1).get(), 3);
        assert!(Cores::parse("0").is_err());
        assert!(Cores::parse("256").is_err());
    }

    #[test]
    fn a_host_and_port_is_a_name_or_an_address() {
        let named = |host: &str, port| Ok(Advertised(Some((host.to_owned(), port))));
        assert_eq!(Advertised::parse("none"), Ok(Advertised(None)));
        assert_eq!(
            Advertised::parse("kafka.local:9092"),
            named("kafka.local", 9092)
        );
        assert_eq!(Advertised::parse("10.0.0.1:1"), named("10.0.0.1", 1));
        assert_eq!(
            Advertised::parse("PLAINTEXT://localhost:9092"),
            named("localhost", 9092)
        );
        assert_eq!(Advertised::parse("[::1]:9092"), named("::1", 9092));
        for text in ["none", "kafka.local:9092", "[::1]:9092"] {
            assert_eq!(Advertised::parse(text).unwrap().text(), text);
        }
        for text in [
            "", "host", ":9092", "host:0", "host:x", "::1:9092", "[x]:1", "a b:1",
        ] {
            assert!(Advertised::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listeners_are_addresses_or_none() {
        assert_eq!(Listener::parse("none"), Ok(Listener(None)));
        assert_eq!(
            Listener::parse("[::1]:0"),
            Ok(Listener(Some("[::1]:0".parse().unwrap())))
        );
        assert!(Listener::parse("localhost").is_err());
    }
}
