//! How `millctl` reaches a broker and knows that it is the right one, and what a failure of
//! the client means to a script.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millrace_client::{Client, ClientError, ConnectOptions, Trust};
use millrace_model::ErrorCode;

use super::exit::{Exit, Failure};
use crate::hex::from_hex;

/// Overrides the file of brokers that were trusted on first use.
const KNOWN_BROKERS_VARIABLE: &str = "MILLRACE_KNOWN_BROKERS";

/// Which broker, and how to know it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct BrokerOptions {
    /// The broker, as host:port; without a port, 9644.
    #[arg(long, global = true, value_name = "ADDR", env = "MILLRACE_BROKER")]
    #[arg(default_value = "127.0.0.1:9644")]
    broker: String,

    /// Trust only the certificates in this PEM file.
    ///
    /// Without --ca and --fingerprint the certificate that a broker shows first is remembered
    /// in ~/.config/millrace/known_brokers, or the file that MILLRACE_KNOWN_BROKERS names, and
    /// another one is refused later.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "fingerprint"
    )]
    ca: Option<PathBuf>,

    /// Trust only the certificate with this SHA-256, 64 hexadecimal digits.
    #[arg(long, global = true, value_name = "HEX", value_parser = parse_fingerprint)]
    fingerprint: Option<Fingerprint>,

    /// Give up on a request after this many seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// SHA-256 of a certificate. A type of its own, for `clap` takes an array for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl BrokerOptions {
    /// Connects.
    ///
    /// # Errors
    /// When the broker cannot be named, reached or trusted.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let mut options = ConnectOptions::new(resolve(&self.broker)?, self.trust()?);
        options.request_timeout = Duration::from_secs(self.timeout);
        options.connect_timeout = options.connect_timeout.min(options.request_timeout);
        Client::connect(options)
            .await
            .map_err(|error| failure(&error))
    }

    fn trust(&self) -> Result<Trust, Failure> {
        if let Some(Fingerprint(fingerprint)) = self.fingerprint {
            return Ok(Trust::Fingerprint(fingerprint));
        }
        if let Some(file) = &self.ca {
            return Ok(Trust::File(file.clone()));
        }
        let folder = |name, below: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
            Some(PathBuf::from(value).join(below))
        };
        folder(KNOWN_BROKERS_VARIABLE, "")
            .map(|file| file.components().collect())
            .or_else(|| folder("XDG_CONFIG_HOME", "millrace/known_brokers"))
            .or_else(|| folder("HOME", ".config/millrace/known_brokers"))
            .map(Trust::FirstUse)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "neither HOME nor {KNOWN_BROKERS_VARIABLE} is set, so there is no file to \
                     remember the broker's certificate in; set one, or use --ca or --fingerprint"
                ))
            })
    }
}

/// The address of `host:port`, `host`, `[v6]:port` or a bare IPv6 address. IPv4 is preferred,
/// for that is what a broker listens on unless told otherwise.
fn resolve(broker: &str) -> Result<SocketAddr, Failure> {
    let bare_v6 = broker.parse::<std::net::Ipv6Addr>().ok();
    let with_port = match bare_v6 {
        Some(address) => format!("[{address}]:{}", millrace_wire::DEFAULT_PORT),
        None if broker
            .rsplit(']')
            .next()
            .is_some_and(|tail| tail.contains(':')) =>
        {
            broker.into()
        }
        None => format!("{broker}:{}", millrace_wire::DEFAULT_PORT),
    };
    let addresses: Vec<SocketAddr> = with_port
        .to_socket_addrs()
        .map_err(|error| {
            Failure::new(
                Exit::Connection,
                format!("the broker '{broker}' is not a known host and port: {error}"),
            )
        })?
        .collect();
    let preferred = addresses.iter().find(|address| address.is_ipv4());
    preferred.or(addresses.first()).copied().ok_or_else(|| {
        Failure::new(
            Exit::Connection,
            format!("the host of '{broker}' has no address"),
        )
    })
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint, String> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    from_hex(text)
        .and_then(|bytes| bytes.try_into().ok())
        .map(Fingerprint)
        .ok_or_else(|| "a fingerprint is 64 hexadecimal digits".into())
}

/// What an error of the client means to a script, and what to do next.
#[must_use]
pub(super) fn failure(error: &ClientError) -> Failure {
    let (exit, hint) = match error {
        ClientError::Connect { .. } => (
            Exit::Connection,
            " Name another broker with --broker or MILLRACE_BROKER.",
        ),
        ClientError::Disconnected { .. } => (Exit::Connection, "; try again"),
        ClientError::TimedOut { .. } => (
            Exit::Connection,
            "; whether the broker did it is not known; look, or try again with a larger --timeout",
        ),
        ClientError::CertificateChanged { .. } => (Exit::Connection, ""),
        ClientError::CertificateUntrusted { .. } => (
            Exit::Connection,
            "; check --broker, and --ca or --fingerprint",
        ),
        ClientError::Broker { code, .. } | ClientError::Refused { code, .. } => refusal(*code),
        ClientError::Options { .. } => (Exit::Usage, ""),
        _ => (Exit::Other, ""),
    };
    Failure::new(exit, format!("{error}{hint}"))
}

fn refusal(code: ErrorCode) -> (Exit, &'static str) {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            (Exit::NotFound, "; `millctl topic list` shows what there is")
        }
        ErrorCode::OffsetOutOfRange => (
            Exit::NotFound,
            "; `millctl offsets TOPIC` shows the offsets that exist",
        ),
        ErrorCode::GroupIdNotFound => {
            (Exit::NotFound, "; `millctl group list` shows what there is")
        }
        ErrorCode::NonEmptyGroup | ErrorCode::GroupSubscribedToTopic => (
            Exit::Refused,
            "; stop its members first, `millctl group describe GROUP --members` shows them",
        ),
        code if code.is_retriable() => (Exit::Refused, "; a retry may succeed"),
        _ => (Exit::Refused, ""),
    }
}

/// That a topic does not exist.
#[must_use]
pub(super) fn unknown_topic(name: &str) -> Failure {
    Failure::not_found(format!(
        "there is no topic '{name}'; `millctl topic list` shows those that exist and \
         `millctl topic create {name}` makes it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_named_with_or_without_its_port() {
        let cases = [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("127.0.0.1", "127.0.0.1:9644"),
            ("[::1]:9000", "[::1]:9000"),
            ("[::1]", "[::1]:9644"),
            ("::1", "[::1]:9644"),
        ];
        for (text, address) in cases {
            assert_eq!(
                resolve(text).unwrap(),
                address.parse::<SocketAddr>().unwrap(),
                "{text}"
            );
        }
        for text in ["127.0.0.1:port", "127.0.0.1:70000", ""] {
            assert_eq!(resolve(text).unwrap_err().exit, Exit::Connection, "{text}");
        }
    }

    #[test]
    fn fingerprints_are_64_digits() {
        let digits = "0f".repeat(32);
        assert_eq!(parse_fingerprint(&digits), Ok(Fingerprint([15; 32])));
        assert_eq!(
            parse_fingerprint(&format!("sha256:{digits}")),
            Ok(Fingerprint([15; 32]))
        );
        for text in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert!(parse_fingerprint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_of_the_client_have_their_exit_codes() {
        let broker = |code| ClientError::Broker {
            code,
            message: "no".into(),
        };
        let cases = [
            (broker(ErrorCode::UnknownTopicOrPartition), Exit::NotFound),
            (broker(ErrorCode::OffsetOutOfRange), Exit::NotFound),
            (broker(ErrorCode::GroupIdNotFound), Exit::NotFound),
            (broker(ErrorCode::NonEmptyGroup), Exit::Refused),
            (broker(ErrorCode::TopicAlreadyExists), Exit::Refused),
            (broker(ErrorCode::KafkaStorageError), Exit::Refused),
            (
                ClientError::TimedOut {
                    what: "x",
                    after: Duration::from_secs(1),
                },
                Exit::Connection,
            ),
            (ClientError::Protocol("x".into()), Exit::Other),
        ];
        for (error, exit) in cases {
            assert_eq!(failure(&error).exit, exit, "{error}");
        }
    }
}
