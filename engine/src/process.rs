//! The process around the broker: from the command line to the exit code.
//!
//! What starts before what: signals are blocked before any thread exists; limits are raised
//! and the machine is checked before the data directory is taken; the data directory is
//! taken before a socket is bound; the line `ready` is printed when every shard serves.
//! Standard output carries what was asked for (the line `ready`, the configuration, the
//! findings of `check` and `tune`, the version) and nothing else.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use crate::broker::Broker;
use crate::checks::{self, Facts, Finding, Severity};
use crate::command_line::{Invocation, Task};
use crate::config::{Config, Effective};
use crate::signals::Signals;
use crate::tune;

/// The machine lacks something that would make the broker faster.
const LACKING: u8 = 1;
/// The broker failed while it served.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const MISCONFIGURED: u8 = 2;
/// The machine lacks something that the broker needs.
const UNFIT: u8 = 3;

/// Runs the program with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match Invocation::parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Nobody to tell when neither stream can be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(MISCONFIGURED));
        }
    };
    if invocation.task == Task::Version {
        return print(&format!("millrace {}\n", env!("CARGO_PKG_VERSION")));
    }
    let effective = match invocation.configure(environment()) {
        Ok(effective) => effective,
        Err(error) => return complain(&error.to_string(), MISCONFIGURED),
    };
    match invocation.task {
        Task::Config => print(&effective.to_toml()),
        Task::Check => check(&effective.config),
        Task::Tune { json } => tune(&effective.config, json),
        Task::Version | Task::Serve => serve(effective),
    }
}

/// The environment, as far as it is text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

fn check(config: &Config) -> ExitCode {
    checks::raise_limits();
    let findings = checks::judge(&Facts::gather(config), config);
    let mut text: String = findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    let fit = is_fit(&findings);
    text.push_str(if fit {
        "this machine can serve\n"
    } else {
        "this machine cannot serve\n"
    });
    let printed = print(&text);
    if fit { printed } else { ExitCode::from(UNFIT) }
}

fn tune(config: &Config, as_json: bool) -> ExitCode {
    let findings = tune::Findings::of(&tune::Host::this(), config);
    let printed = print(&match as_json {
        true => findings.json(),
        false => findings.text(),
    });
    if findings.fit {
        printed
    } else {
        ExitCode::from(LACKING)
    }
}

fn is_fit(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.severity < Severity::Error)
}

fn serve(effective: Effective) -> ExitCode {
    let begun = Instant::now();
    let started = prepare(&effective).and_then(|signals| {
        let broker = Broker::start(effective.config.clone().into())
            .map_err(|error| complain(&error.to_string(), UNFIT))?;
        Ok((signals, broker))
    });
    let (signals, broker) = match started {
        Ok(started) => started,
        Err(code) => return code,
    };
    let listening = Listening {
        quic: broker.quic(),
        kafka: broker.kafka(),
        http: broker.http(),
    };
    announce(&effective.config, listening);
    tracing::debug!(ready_ms = begun.elapsed().as_millis(), "ready");
    let signal = signals
        .recv()
        .expect("the thread that waits for signals never ends");
    tracing::info!(signal, "shutting down; a second signal stops at once");
    match broker.shutdown() {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => complain(&format!("the shutdown was not clean: {error}"), FAILED),
    }
}

/// Everything before the broker itself: logs, signals, limits, checks. Gives the signals as
/// they come.
fn prepare(effective: &Effective) -> Result<flume::Receiver<&'static str>, ExitCode> {
    crate::logging::start(effective)
        .map_err(|error| complain(&error.to_string(), MISCONFIGURED))?;
    let (sender, signals) = flume::unbounded();
    let tell = move |signal| {
        // Before the broker runs nobody receives, and the channel keeps the signal.
        let _ = sender.send(signal);
    };
    Signals::block()
        .and_then(|signals| signals.listen(tell))
        .map_err(|error| complain(&format!("cannot wait for signals: {error}"), FAILED))?;
    for name in &effective.unknown_variables {
        tracing::warn!(
            "the environment variable {name} is no setting; `millrace config` lists all"
        );
    }
    let config = &effective.config;
    checks::raise_limits();
    let findings = checks::judge(&Facts::gather(config), config);
    for finding in &findings {
        write_error(&format!("{finding}\n"));
    }
    if !is_fit(&findings) {
        return Err(complain("this machine cannot serve; see above", UNFIT));
    }
    Ok(signals)
}

/// Where a broker listens.
#[derive(Clone, Copy)]
struct Listening {
    quic: SocketAddr,
    kafka: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

fn announce(config: &Config, listening: Listening) {
    write_error(&banner(config, listening));
    // A supervisor that closed the pipe does not want the line.
    let _ = writeln!(io::stdout(), "{}", ready_line(listening));
    let _ = io::stdout().flush();
}

/// The line that tells a script that the broker serves, and where. What does not listen is
/// left out.
fn ready_line(Listening { quic, kafka, http }: Listening) -> String {
    let named = |name: &str, address: Option<SocketAddr>| {
        address.map_or_else(String::new, |address| format!(" {name}={address}"))
    };
    let (kafka, http) = (named("kafka", kafka), named("http", http));
    format!("ready quic={quic}{kafka}{http}")
}

/// How a client on this machine reaches a listener.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    listener
}

/// Says how to produce, consume and watch.
fn banner(config: &Config, Listening { quic, kafka, http }: Listening) -> String {
    let local = reachable(quic);
    let broker = if local.port() == millrace_wire::DEFAULT_PORT {
        String::new()
    } else {
        format!(" --broker {local}")
    };
    let (version, data) = (env!("CARGO_PKG_VERSION"), config.data_dir.display());
    let watch = http.map_or_else(String::new, |http| {
        format!("  watch    curl http://{http}/metrics\n")
    });
    let kafka = kafka.map_or_else(String::new, |kafka| {
        let kafka = reachable(kafka);
        format!("  kafka    echo world | kcat -b {kafka} -P -t hello\n")
    });
    format!(
        "\nmillrace {version} on {quic}, data in {data}\n\
         \x20 create   millctl{broker} topic create hello\n\
         \x20 produce  echo world | millctl{broker} produce hello\n\
         \x20 consume  millctl{broker} consume hello\n\
         {kafka}{watch}\n"
    )
}

fn print(text: &str) -> ExitCode {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    write_error(&format!("error: {text}\n"));
    ExitCode::from(code)
}

fn write_error(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::config::Layers;

    fn on(quic: &str) -> Listening {
        Listening {
            quic: quic.parse().unwrap(),
            kafka: None,
            http: None,
        }
    }

    #[test]
    fn the_ready_line_leaves_out_what_does_not_listen() {
        let mut listening = on("127.0.0.1:4000");
        assert_eq!(ready_line(listening), "ready quic=127.0.0.1:4000");
        listening.http = Some("[::1]:5000".parse().unwrap());
        assert_eq!(
            ready_line(listening),
            "ready quic=127.0.0.1:4000 http=[::1]:5000"
        );
        listening.kafka = Some("127.0.0.1:9092".parse().unwrap());
        assert_eq!(
            ready_line(listening),
            "ready quic=127.0.0.1:4000 kafka=127.0.0.1:9092 http=[::1]:5000"
        );
    }

    #[test]
    fn the_banner_names_the_broker_where_it_is_not_the_default() {
        let config = Layers::default().build().unwrap().config;
        let mut usual = on("0.0.0.0:9644");
        usual.kafka = Some("0.0.0.0:9092".parse().unwrap());
        let usual = banner(&config, usual);
        assert!(usual.contains("millctl produce hello"), "{usual}");
        assert!(usual.contains("kcat -b 127.0.0.1:9092 -P"), "{usual}");
        let other = banner(&config, on("0.0.0.0:4000"));
        assert!(!other.contains("kcat"), "{other}");
        assert!(
            other.contains("millctl --broker 127.0.0.1:4000 produce hello"),
            "{other}"
        );
    }
}
