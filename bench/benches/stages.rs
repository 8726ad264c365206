//! What it costs a broker to say where the time went: everything that is recorded of one batch on its way, beside
//! the clock that it reads for that; and what it costs to say which task runs.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::future::{Future, pending};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use millrace_engine::metrics::{ShardMetrics, Stage};
use millrace_model::{LogId, ShardId, TopicId};
use millrace_net::pulse::{self, Pulse, Work, named};

/// The stages of a batch of a topic with one replica, and of one that is delivered.
const RECORDED: [Stage; 6] = [
    Stage::Receive,
    Stage::Queue,
    Stage::Append,
    Stage::Device,
    Stage::Ack,
    Stage::Deliver,
];

/// Times that a batch's way reads the clock: when its header is seen, when it is whole, when it is appended,
/// when it is durable, when its acknowledgement has left, when it is delivered.
const READINGS: usize = 6;

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    let (metrics, topic) = (ShardMetrics::new(ShardId(0)), TopicId([1; 16]));
    let mut random = fastrand::Rng::with_seed(1);
    let times: Vec<u64> = (0..4096).map(|_| random.u64(200..200_000)).collect();
    let mut times = times.iter().cycle();
    group.bench_function("record a batch", |b| {
        b.iter(|| {
            for stage in RECORDED {
                let nanos = times.next().copied().unwrap_or(0);
                metrics.record(black_box(stage), topic, nanos);
            }
        });
    });
    group.bench_function("read the clock for a batch", |b| {
        b.iter(|| {
            for _ in 0..READINGS {
                black_box(Instant::now());
            }
        });
    });
    group.finish();
}

fn tasks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("poll");
    let mut nobody = Context::from_waker(Waker::noop());
    group.bench_function("a task", |b| {
        let mut task = pin!(pending::<()>());
        b.iter(|| black_box(task.as_mut().poll(&mut nobody)));
    });
    pulse::install(Arc::new(Pulse::default()));
    group.bench_function("a task with a name", |b| {
        let mut task = pin!(named(Work::Produce.on(LogId::default()), pending::<()>()));
        b.iter(|| black_box(task.as_mut().poll(&mut nobody)));
    });
    group.finish();
}

criterion_group!(benches, stages, tasks);
criterion_main!(benches);
