"""The loads: what is done to a broker, and the figures that come of it.

Each load runs against a broker of its own that was just started and, where the load is one of throughput,
warmed up by a short run of the same kind, so that a JVM has compiled what it will run.
"""

import contextlib
import dataclasses
import statistics
import subprocess
import time

from . import clients, install, proc

KAFKA, FLUSH, MILLRACE = "kafka", "kafka-flush", "millrace"

# millrace-bench's broker that keeps nothing: what a client reaches against it is the client's own limit.
SINK = "sink"
SIZE = 1024

# Batches of 128 KiB for Kafka's producer, which by default would send what it has after 16 KiB.
LARGE_BATCHES = {"acks": "all", "batch.size": 131072, "linger.ms": 5}

# The same for millrace-bench: 64 records of 1 KiB.
BENCH_LARGE = ["--record-size", SIZE, "--batch", 64, "--in-flight", 5]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of each load."""

    records: int
    warm_records: int
    seconds: str
    warm_seconds: str
    fill: str
    singles: int
    rounds: int


FULL = Sizes(records=1_000_000, warm_records=300_000, seconds="10s", warm_seconds="10s", fill="1GiB", singles=5_000, rounds=3)
QUICK = Sizes(records=50_000, warm_records=10_000, seconds="2s", warm_seconds="1s", fill="64MiB", singles=500, rounds=1)


@contextlib.contextmanager
def metered(broker, figures):
    """Adds what broker, client and everything else took while the body ran, which must set `bytes` for CPU time
    per GB."""
    cpu, machine, ours = broker.usage()[0], proc.machine_cpu_seconds(), proc.children_cpu_seconds()
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    broker_cpu, client_cpu = broker.usage()[0] - cpu, proc.children_cpu_seconds() - ours
    busy, stolen = (after - before for after, before in zip(proc.machine_cpu_seconds(), machine))
    _, resident, peak = broker.usage()
    figures.update(
        broker_cpu_s=broker_cpu, client_cpu_s=client_cpu, other_cpu_s=max(0.0, busy - broker_cpu - client_cpu),
        stolen_cpu_s=stolen, wall_s=seconds, resident_mib=resident, peak_resident_mib=peak)
    if figures.get("bytes"):
        figures["cpu_s_per_gb"] = broker_cpu / (figures["bytes"] / 1e9)


def start(broker, _options, _sizes):
    """Nothing but the start, which every broker is timed for, and its memory a second later."""
    time.sleep(1)
    _, resident, peak = broker.usage()
    figures = {"resident_mib": resident, "peak_resident_mib": peak}
    if broker.ready_line_ms is not None:
        figures["ready_line_ms"] = broker.ready_line_ms
    return figures


def produce(broker, _options, sizes):
    """producer-perf-test, one producer, one partition."""
    broker.create_topic("produce", 1)
    clients.run(clients.producer_perf(broker, "produce", sizes.warm_records, SIZE, LARGE_BATCHES))
    figures = {}
    with metered(broker, figures):
        printed = clients.run(clients.producer_perf(broker, "produce", sizes.records, SIZE, LARGE_BATCHES))
        figures.update(clients.produced(printed, SIZE))
    return figures


def produce_4_java(broker, _options, sizes):
    """Four producer-perf-tests at once, four partitions; throughput over the time from the first start to the
    last end is too rough, for a JVM starts in it, so it is the sum of what the four say."""
    broker.create_topic("produce", 4)
    clients.run(clients.producer_perf(broker, "produce", sizes.warm_records, SIZE, LARGE_BATCHES))
    figures = {}
    with metered(broker, figures):
        running = [subprocess.Popen([str(part) for part in clients.producer_perf(
            broker, "produce", sizes.records // 4, SIZE, LARGE_BATCHES)], stdout=subprocess.PIPE, text=True)
            for _ in range(4)]
        found = [clients.produced(process.communicate(timeout=clients.CLIENT_SECONDS)[0], SIZE) for process in running]
        figures.update(bytes=sum(one["bytes"] for one in found), mb_s=sum(one["mb_s"] for one in found),
                       ack_p99_us=max(one["ack_p99_us"] for one in found))
    return figures


def _of_bench(report):
    """The figures of a report that the rows know."""
    usage = report["usage"]
    figures = {
        "mb_s": report["megabytes_per_second"], "records_s": report["records_per_second"], "bytes": report["bytes"],
        "broker_cpu_s": usage["broker"]["cpu_seconds"], "client_cpu_s": usage["load_cpu_seconds"],
        "other_cpu_s": usage["other_cpu_seconds"], "stolen_cpu_s": usage["stolen_cpu_seconds"],
        "wall_s": usage["seconds"], "cpu_s_per_gb": report["broker_cpu_seconds_per_gb"],
        "resident_mib": usage["broker"]["resident_bytes"] / (1 << 20),
        "peak_resident_mib": usage["broker"]["peak_resident_bytes"] / (1 << 20),
    }
    for kind, latency in (("ack", report["ack_latency"]), ("e2e", report["end_to_end_latency"])):
        for name in ("p50", "p90", "p99", "p99_9", "max") if latency else ():
            figures[f"{kind}_{name}_us"] = latency[f"{name}_us"]
    return figures


def _bench(broker, options, mode, *more, target=None):
    target = target or ["--kafka", broker.kafka]
    return clients.bench(options.bench, mode, broker, target, "--label", f"{broker.config}: {mode}", *more)


def produce_4(broker, options, sizes):
    """millrace-bench over the Kafka protocol, four producers, four partitions."""
    report = _bench(broker, options, "produce", "--producers", 4, "--partitions", 4, *BENCH_LARGE,
                    "--duration", sizes.seconds, "--warm-up", sizes.warm_seconds)
    return _of_bench(report) | {"report": report}


def consume(broker, options, sizes):
    """consumer-perf-test over a topic of one partition that producer-perf-test filled."""
    broker.create_topic("consume", 1)
    clients.run(clients.producer_perf(broker, "consume", sizes.records, SIZE, LARGE_BATCHES))
    clients.consumer_perf(broker, "consume", sizes.warm_records, SIZE)
    figures = {}
    with metered(broker, figures):
        figures.update(clients.consumer_perf(broker, "consume", sizes.records, SIZE))
    return figures


def consume_bench(broker, options, sizes):
    """millrace-bench over the Kafka protocol reads four partitions. A first, short one warms up."""
    shape = ["--partitions", 4, *BENCH_LARGE, "--fetch", "1MiB"]
    _bench(broker, options, "consume", *shape, "--fill", "64MiB")
    report = _bench(broker, options, "consume", *shape, "--fill", sizes.fill)
    return _of_bench(report) | {"report": report}


def e2e(broker, options, sizes):
    """millrace-bench over the Kafka protocol, 1,000 records a second in an open loop, one record a batch."""
    report = _bench(broker, options, "e2e", "--rate", 1000, "--batch", 1, "--in-flight", 16, "--record-size", SIZE,
                    "--duration", sizes.seconds, "--warm-up", sizes.warm_seconds)
    return _of_bench(report) | {"report": report}


def e2e_java(broker, _options, sizes):
    """Kafka's end-to-end latency tool."""
    broker.create_topic("e2e", 1)
    clients.end_to_end_latency(broker, "e2e", sizes.singles // 5, SIZE)
    figures = {}
    with metered(broker, figures):
        figures.update(clients.end_to_end_latency(broker, "e2e", sizes.singles, SIZE))
    return figures


# A member sends its first heartbeat an interval, 3 s by default, after it has joined: a group that is older is settled.
SETTLED_MS, FRESH_MS = 3500, 500


def _rebalance(protocol, settled_ms=SETTLED_MS):
    def rebalance(broker, _options, sizes):
        """Three Java consumers of six partitions, of which one leaves."""
        broker.create_topic("rebalance", 6)
        rounds = clients.rebalance(broker, "rebalance", 6, protocol, sizes.rounds, settled_ms)
        return {"ms": statistics.median(rounds), "rounds_ms": rounds}
    return rebalance


def rdkafka(broker, _options, sizes):
    """librdkafka's clients: bulk both ways, then single records."""
    program, latency = install.rdkafka_performance(), install.rdkafka_latency()
    broker.create_topic("bulk", 1)
    clients.rdkafka_produce(program, broker, "bulk", sizes.warm_records, SIZE, 1)
    figures = {}
    bulk = {}
    with metered(broker, bulk):
        bulk.update(clients.rdkafka_produce(program, broker, "bulk", sizes.records, SIZE, 1))
    figures.update({f"produce_{name}": bulk[name] for name in ("mb_s", "cpu_s_per_gb", "client_cpu_s", "broker_cpu_s")})
    clients.rdkafka_consume(program, broker, "bulk", sizes.warm_records, SIZE)
    bulk = {}
    with metered(broker, bulk):
        bulk.update(clients.rdkafka_consume(program, broker, "bulk", sizes.records, SIZE))
    figures.update({f"consume_{name}": bulk[name] for name in ("mb_s", "cpu_s_per_gb", "client_cpu_s", "broker_cpu_s")})
    broker.create_topic("singles", 1)
    singles = clients.rdkafka_latency(latency, "ack", broker, "singles", sizes.singles, SIZE)
    figures.update(ack_p50_us=clients.quantile(singles, 0.5), ack_p99_us=clients.quantile(singles, 0.99))
    if broker.config == SINK:  # it delivers the last record over and over, which has no latency
        return figures
    broker.create_topic("paced", 1)
    paced = clients.rdkafka_latency(latency, "e2e", broker, "paced", sizes.singles, SIZE, 1000)
    figures.update(e2e_p50_us=clients.quantile(paced, 0.5), e2e_p99_us=clients.quantile(paced, 0.99))
    _, figures["resident_mib"], figures["peak_resident_mib"] = broker.usage()
    return figures


def quic(broker, options, sizes):
    """The same load over both of Millrace's listeners, one after the other on one broker."""
    shape = ["--producers", 4, "--partitions", 4, *BENCH_LARGE, "--duration", sizes.seconds, "--warm-up", "1s"]
    found = {}
    for name, target in (("quic", ["--broker", broker.quic]), ("kafka", ["--kafka", broker.kafka])):
        report = _bench(broker, options, "produce", *shape, target=target)
        found |= {f"{name}_mb_s": report["megabytes_per_second"],
                  f"{name}_cpu_s_per_gb": report["broker_cpu_seconds_per_gb"],
                  f"{name}_client_cpu_s_per_gb": report["usage"]["load_cpu_seconds"] / (report["bytes"] / 1e9)}
    return found


@dataclasses.dataclass(frozen=True)
class Load:
    """A load and the brokers that it makes sense for."""

    run: object
    configs: tuple = (KAFKA, MILLRACE)
    # Whether its client runs on Kafka's jars.
    java: bool = False


LOADS = {
    "start": Load(start),
    "produce": Load(produce, (KAFKA, FLUSH, MILLRACE, SINK), java=True),
    "produce-4": Load(produce_4, (KAFKA, FLUSH, MILLRACE, SINK)),
    "produce-4-java": Load(produce_4_java, (KAFKA, MILLRACE, SINK), java=True),
    "consume": Load(consume, java=True),
    "consume-bench": Load(consume_bench, (KAFKA, MILLRACE, SINK)),
    "e2e": Load(e2e, (KAFKA, FLUSH, MILLRACE)),
    "e2e-java": Load(e2e_java, (KAFKA, FLUSH, MILLRACE), java=True),
    "rebalance-classic": Load(_rebalance("classic"), java=True),
    "rebalance-classic-fresh": Load(_rebalance("classic", FRESH_MS), java=True),
    "rebalance-consumer": Load(_rebalance("consumer"), java=True),
    "rdkafka": Load(rdkafka, (KAFKA, MILLRACE, SINK)),
    "quic": Load(quic, (MILLRACE,)),
}

