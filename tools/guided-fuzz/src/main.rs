//! Feeds one fuzz body with inputs that libFuzzer makes, guided by the code that they reach.
//!
//! `MILLRACE_FUZZ_TARGET` names the body, as `millrace-fuzz` names it. The command line is
//! libFuzzer's. `run` beside this builds and starts it.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Body = fn(&[u8]);

/// The bodies whose crates are pure. Those of the log get their inputs from `millrace-fuzz` only,
/// which seals them.
const BODIES: [(&str, Body); 14] = [
    ("kafka::request", millrace_kafka::fuzz::request),
    ("kafka::response", millrace_kafka::fuzz::response),
    ("kafka::sampled", millrace_kafka::fuzz::sampled),
    (
        "kafka::consumer_protocol",
        millrace_kafka::fuzz::consumer_protocol,
    ),
    ("wire::messages", millrace_wire::fuzz::messages),
    ("wire::opening", millrace_wire::fuzz::opening),
    ("wire::frames", millrace_wire::fuzz::frames),
    ("wire::acks", millrace_wire::fuzz::acks),
    ("wire::records", millrace_wire::fuzz::records),
    ("model::frame", millrace_model::fuzz::frame),
    ("model::write_header", millrace_model::fuzz::write_header),
    ("model::record_batch", millrace_model::fuzz::record_batch),
    ("model::decompress", millrace_model::fuzz::decompress),
    ("model::settings", millrace_model::fuzz::settings),
];

static BODY: OnceLock<Body> = OnceLock::new();

fn body() -> Body {
    let name = std::env::var("MILLRACE_FUZZ_TARGET").unwrap_or_default();
    let chosen = BODIES.iter().find(|(body, _)| *body == name);
    let Some((_, body)) = chosen else {
        eprintln!("error: MILLRACE_FUZZ_TARGET is none of these:");
        BODIES.iter().for_each(|(body, _)| eprintln!("  {body}"));
        std::process::exit(2);
    };
    *body
}

fuzz_target!(|data: &[u8]| BODY.get_or_init(body)(data));
