//! The bench checked against itself: a server whose every delay is known, so that the true
//! percentiles can be worked out without it.
//!
//! Most of it runs on a clock that nobody waits for: the schedule, the places in flight and the
//! recording are the code of a real run (`pace`, `flow`), and only what carries batches is replaced.
//! One run goes over a real socket, with a stall that is planted in the server; it asserts nothing
//! but that the one way of measuring sees the stall and the other does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use millrace_bench::flow::Flow;
use millrace_bench::measure::Tally;
use millrace_bench::options::{Load, Mode, Options, Stall};
use millrace_bench::pace::{Parcel, Supply};
use millrace_bench::produce;
use millrace_bench::shape::Shapes;
use millrace_bench::sink::{self, Delays};
use millrace_bench::window::Window;
use millrace_model::ErrorCode;

/// The histogram tells latencies apart to three digits.
const PRECISION: f64 = 0.001;

/// On the virtual clock nothing is ever late.
const SCHEDULING: Duration = Duration::ZERO;

const QUANTILES: [f64; 7] = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

const MILLI: Duration = Duration::from_millis(1);

fn load(line: &str) -> Load {
    let words = std::iter::once("millrace-bench").chain(line.split_ascii_whitespace());
    match Options::parse_from(words).mode {
        Mode::Produce(load) => load,
        other => panic!("not produce: {other:?}"),
    }
}

/// A server that takes one batch after the other and needs the same time for each, except that
/// it does nothing at all while it stalls.
struct Server {
    each: Duration,
    stall: Option<Stall>,
    free: Duration,
}

impl Server {
    fn new(each: Duration, stall: Option<Stall>) -> Self {
        Self {
            each,
            stall,
            free: Duration::ZERO,
        }
    }

    /// When a batch that comes now is answered.
    fn answers(&mut self, now: Duration) -> Duration {
        let mut begin = now.max(self.free);
        let mut done = begin + self.each;
        if let Some(Stall { after, length }) = self.stall {
            if begin >= after {
                begin = begin.max(after + length);
                done = begin + self.each;
            } else if done > after {
                done += length; // the stall caught it half way
            }
        }
        self.free = done;
        done
    }
}

/// What a run of one producer measures against this server: `supply` and `flow` decide, and this
/// moves the clock from one event to the next.
fn measured(load: &Load, mut server: Server) -> Tally {
    let window = Window::new(load);
    let shapes = Arc::new(Shapes::new(load, 1));
    let mut supply = Supply::new(load, window, shapes, 0);
    let mut flow = Flow::new(window, load.in_flight.get(), 1);
    let mut answers = VecDeque::new();
    let mut now = Duration::ZERO;
    let open_loop = supply.is_open_loop();
    let mut coming: Option<Parcel> = None;
    let mut over = false;
    loop {
        while answers.front().is_some_and(|at| *at <= now) {
            answers.pop_front();
            flow.answered(0, now, ErrorCode::None).unwrap();
        }
        loop {
            if coming.is_none() && !over && (open_loop || flow.has_room()) {
                coming = supply.next(now);
                over = coming.is_none();
            }
            match coming.take_if(|parcel| parcel.ready <= now) {
                Some(parcel) => flow.offer(parcel),
                None => break,
            }
            while flow.send_next().is_some() {
                answers.push_back(server.answers(now));
            }
        }
        while flow.send_next().is_some() {
            answers.push_back(server.answers(now));
        }
        let events = coming.map(|parcel| parcel.ready).into_iter();
        match events.chain(answers.front().copied()).min() {
            Some(at) => now = at,
            None => return flow.into_tally(),
        }
    }
}

/// The latencies that somebody has who comes to this server by the schedule, whatever the
/// server does, worked out from the schedule alone.
fn truth(line: &Load, mut server: Server) -> Vec<Duration> {
    let rate = u64::from(line.rate.unwrap().get());
    let due = |number: u64| Duration::from_nanos(number * 1_000_000_000 / rate);
    let end = line.warm_up() + line.duration();
    let all = (0..).map(due).take_while(|due| *due < end);
    let mut latencies: Vec<Duration> = all
        .map(|due| (due, server.answers(due) - due))
        .filter(|(due, _)| *due >= line.warm_up())
        .map(|(_, latency)| latency)
        .collect();
    latencies.sort();
    latencies
}

fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Fails unless each quantile is the true one.
fn reproduces(tally: &Tally, truth: &[Duration]) {
    let latencies = &tally.acked.latencies;
    assert_eq!(latencies.count(), truth.len() as u64);
    assert_eq!(
        latencies.max(),
        *truth.last().unwrap(),
        "the maximum is exact"
    );
    for at in QUANTILES {
        let (found, expected) = (latencies.quantile(at), quantile(truth, at));
        let allowed = expected.mul_f64(PRECISION) + SCHEDULING + Duration::from_nanos(1);
        assert!(
            found.abs_diff(expected) <= allowed,
            "at {at}: {found:?} is not {expected:?}"
        );
    }
}

const STALL: Option<Stall> = Some(Stall {
    after: Duration::from_secs(4),
    length: Duration::from_secs(1),
});

const OPEN: &str = "produce --rate 1000 --duration 10s --warm-up 1s --in-flight 16";

#[test]
fn a_constant_delay_is_reproduced() {
    let load = load(OPEN);
    let server = || Server::new(MILLI / 2, None);
    let tally = measured(&load, server());
    reproduces(&tally, &truth(&load, server()));
    assert_eq!(tally.acked.latencies.quantile(0.5).as_micros(), 500);
    assert_eq!(tally.acked.records, 10_000);
}

#[test]
fn a_stall_of_a_second_is_reproduced_whole_by_an_open_loop() {
    let load = load(OPEN);
    let server = || Server::new(MILLI / 2, STALL);
    let tally = measured(&load, server());
    reproduces(&tally, &truth(&load, server()));
    // A thousand batches were due in that second, and a thousand in the next, in which it catches up.
    let p95 = tally.acked.latencies.quantile(0.95);
    assert!(p95 > 400 * MILLI, "{p95:?}");
    assert!(tally.lost.is_none() && tally.errors.is_empty());
}

#[test]
fn places_in_flight_do_not_hide_what_waits_for_them() {
    let one = load(&OPEN.replace("--in-flight 16", "--in-flight 1"));
    let server = || Server::new(MILLI / 2, STALL);
    reproduces(&measured(&one, server()), &truth(&one, server()));
}

#[test]
fn a_closed_loop_gets_the_same_stall_wrong() {
    let open = load(OPEN);
    let closed = load("produce --duration 10s --warm-up 1s");
    let server = || Server::new(MILLI / 2, STALL);
    let expected = truth(&open, server());
    let tally = measured(&closed, server());
    for at in [0.9, 0.95, 0.99, 0.999] {
        let (found, expected) = (tally.acked.latencies.quantile(at), quantile(&expected, at));
        if expected > MILLI {
            assert!(
                found * 100 < expected,
                "at {at}: {found:?} for {expected:?}"
            );
        }
    }
    assert!(
        tally.acked.latencies.quantile(0.999) < MILLI,
        "coordinated omission"
    );
    assert!(
        tally.acked.latencies.max() > 1000 * MILLI,
        "it met the stall once"
    );
}

#[test]
fn records_that_linger_are_measured_from_when_each_was_due() {
    let line =
        "produce --rate 1000 --duration 10s --warm-up 0s --in-flight 16 --batch 100 --linger 4ms";
    let tally = measured(&load(line), Server::new(MILLI, None));
    let latencies = &tally.acked.latencies;
    assert_eq!(latencies.count(), 10_000, "each of them");
    // Five records are due in four milliseconds: the first waits for all of them, the last for none.
    let expected: Vec<Duration> = (1..=5).map(|more| more * MILLI).collect();
    for (index, at) in [0.1, 0.3, 0.5, 0.7, 0.9].into_iter().enumerate() {
        let off = latencies.quantile(at).abs_diff(expected[index]);
        assert!(
            off <= expected[index].mul_f64(PRECISION),
            "at {at}: {off:?}"
        );
    }
}

#[test]
fn a_rate_beyond_the_server_shows_what_it_did_and_a_queue_that_grows() {
    let load = load("produce --rate 4000 --duration 10s --warm-up 0s --in-flight 16");
    let server = || Server::new(MILLI / 2, None);
    let tally = measured(&load, server());
    reproduces(&tally, &truth(&load, server()));
    // Twice what it can: the last one was due at ten seconds and answered at twenty.
    let wall = Window::new(&load).wall(tally.acked.until).as_secs_f64();
    assert!(
        (tally.acked.records as f64 / wall - 2_000.0).abs() < 1.0,
        "{wall}"
    );
}

/// What a run over a real socket measures against the sink with a stall of a second planted.
async fn over_a_socket(line: &str) -> Tally {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stall = Stall {
        after: 800 * MILLI,
        length: 1000 * MILLI,
    };
    let delays = Delays {
        each: MILLI,
        stall: Some(stall),
    };
    let serving = tokio::spawn(sink::serve(listener, delays));
    let line = format!("produce --kafka {address} --duration 2500ms --warm-up 0s {line}");
    let measured = produce::run(&load(&line)).await.unwrap();
    serving.abort();
    assert!(
        measured.tally.errors.is_empty(),
        "{:?}",
        measured.tally.errors
    );
    measured.tally
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_socket_only_the_open_loop_sees_the_stall() {
    let (open, closed) = tokio::join!(over_a_socket("--rate 100"), over_a_socket(""));
    let visible = 300 * MILLI;
    let (open, closed) = (open.acked.latencies, closed.acked.latencies);
    assert_eq!(open.count(), 250, "all that was due is in it");
    // Two fifths of the time nothing was answered.
    assert!(open.quantile(0.8) > visible, "{:?}", open.quantile(0.8));
    assert!(open.quantile(0.99) > visible);
    assert!(
        closed.quantile(0.99) < visible,
        "{:?}",
        closed.quantile(0.99)
    );
    assert!(closed.max() > visible, "it met the stall once");
}
