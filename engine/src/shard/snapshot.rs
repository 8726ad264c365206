//! A shard's metrics at one moment: what was counted as it happened, and what is gathered
//! from those who keep it, only when somebody asks.

use std::time::Duration;

use millrace_net::ShardEndpoint;

use super::Shard;
use crate::metrics::{Counter, Gauge, ShardMetrics, ShardSnapshot};

impl Shard {
    /// The shard's metrics as they are now.
    pub(crate) fn snapshot(&self) -> ShardSnapshot {
        self.gather();
        self.metrics.snapshot()
    }

    /// Brings the metrics up to date with those who keep what is counted elsewhere.
    pub(crate) fn gather(&self) {
        self.gather_logs();
        self.gather_memory();
        self.metrics.reach(Counter::Stalls, self.pulse.stalls());
        gather_device(&self.metrics);
        gather_time(&self.metrics);
        if let Some(endpoint) = self.endpoint.get() {
            gather_network(&self.metrics, endpoint);
        }
    }

    fn gather_logs(&self) {
        let open = self.partitions.all_open();
        let (mut latched, mut segments, mut bytes, mut unsettled) = (0, 0, 0, 0);
        for partition in &open {
            let stats = partition.log().stats();
            latched += u64::from(partition.log().latched().is_some());
            segments += stats.segments as u64;
            bytes += stats.disk_bytes;
            unsettled += partition.unsettled() as u64;
        }
        let partitions = self.topics.partitions_of(self.id, self.shards);
        self.metrics.set(Gauge::Partitions, partitions);
        self.metrics.set(Gauge::OpenPartitions, open.len() as u64);
        self.metrics.set(Gauge::LatchedPartitions, latched);
        self.metrics.set(Gauge::DeviceQueue, unsettled);
        self.metrics.set(Gauge::Segments, segments);
        self.metrics.set(Gauge::LogBytes, bytes);
    }

    fn gather_memory(&self) {
        let storage = self.storage.stats();
        let budget = &self.budget;
        self.metrics
            .set(Gauge::TailBytes, storage.tail_bytes as u64);
        self.metrics.set(Gauge::CacheBytes, storage.cached_bytes);
        self.metrics.set(Gauge::BudgetUsed, budget.used() as u64);
        self.metrics.set(Gauge::BudgetLimit, budget.limit() as u64);
        self.metrics
            .set(Gauge::BudgetWaiters, budget.waiters() as u64);
        self.metrics
            .set(Gauge::MeshQueued, self.mesh.queued(self.id));
    }
}

/// What the executor's rings have done with files since they were last asked: asking takes the counts away.
fn gather_device(metrics: &ShardMetrics) {
    let rings = glommio::executor().io_stats().all_rings();
    let (direct_reads, direct_read_bytes) = rings.file_reads();
    let (buffered_reads, buffered_read_bytes) = rings.file_buffered_reads();
    let (direct_writes, direct_write_bytes) = rings.file_writes();
    let (buffered_writes, buffered_write_bytes) = rings.file_buffered_writes();
    metrics.add(Counter::DeviceReads, direct_reads + buffered_reads);
    metrics.add(
        Counter::DeviceReadBytes,
        direct_read_bytes + buffered_read_bytes,
    );
    metrics.add(Counter::DeviceWrites, direct_writes + buffered_writes);
    metrics.add(
        Counter::DeviceWriteBytes,
        direct_write_bytes + buffered_write_bytes,
    );
    let open = metrics.gauge(Gauge::OpenFiles) + rings.files_opened();
    metrics.set(Gauge::OpenFiles, open.saturating_sub(rings.files_closed()));
}

/// Where the time of the shard's thread has gone.
fn gather_time(metrics: &ShardMetrics) {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // As with files, asking takes it away.
    let tasks = glommio::executor().executor_stats().executor_runtime();
    metrics.add(Counter::TaskMicros, micros(tasks));
    metrics.reach(Counter::CpuMicros, micros(thread_time()));
}

/// What the thread that calls has run so far; nothing if the system does not say.
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a whole, writable timespec that lives through the call.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    match (
        told,
        u64::try_from(time.tv_sec),
        u32::try_from(time.tv_nsec),
    ) {
        (0, Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos),
        _ => Duration::ZERO,
    }
}

fn gather_network(metrics: &ShardMetrics, endpoint: &ShardEndpoint) {
    let (datagrams, attempts) = (endpoint.datagrams(), endpoint.counters());
    metrics.reach(Counter::Datagrams, datagrams.received.get());
    metrics.reach(Counter::DatagramsForwarded, datagrams.forwarded_out.get());
    let ignored = datagrams.garbage.get() + datagrams.dropped_full.get();
    metrics.reach(Counter::DatagramsIgnored, ignored);
    let refused = attempts.turned_away.get() + attempts.failed.get() + attempts.timed_out.get();
    metrics.reach(Counter::ConnectionsRefused, refused);
}
