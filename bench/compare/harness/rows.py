"""The rows of the table: which figure of which load, what it should reach, and what came of it."""

import dataclasses
import statistics

from .loads import KAFKA, MILLRACE, SINK


@dataclasses.dataclass(frozen=True)
class Row:
    """A row. The goal is held against the median of the pairs' ratios, Millrace's figure over Kafka's."""

    title: str
    load: str
    figure: str
    unit: str
    # "at most" or "at least" this times Kafka's figure, or None where only the figures are of interest.
    goal: tuple = None
    # The same figure of another broker, as published for a machine of this size, for orientation.
    peer: str = ""
    # The figure of the other side where that is not the same figure of Kafka.
    against: str = None


MOST, LEAST, WITHIN = "at most", "at least", "within"

# From this share of what a client reaches against the sink it is the client that limits.
CLIENT_LIMIT = 0.9

# What each load is, for the headings.
TITLES = {
    "start": "Start, with an empty directory",
    "produce": "Produce 1 KiB, acks=all, batches of 128 KiB: Kafka's producer-perf-test, 1 producer, 1 partition",
    "produce-4": "Produce 1 KiB, acks=all, batches of 64 KiB: millrace-bench --kafka, 4 producers, 4 partitions",
    "produce-4-java": "Produce 1 KiB, acks=all, batches of 128 KiB: 4 producer-perf-tests, 4 partitions",
    "consume": "Consume 1 KiB: Kafka's consumer-perf-test, 1 partition",
    "consume-bench": "Consume 1 KiB: millrace-bench --kafka, 4 partitions",
    "e2e": "1,000 records a second, one a batch, acks=all: millrace-bench --kafka, open loop",
    "e2e-java": "One record at a time, acks=all: Kafka's end-to-end latency tool",
    "rebalance-classic": "A group of 3, classic protocol: a member leaves, until all partitions are consumed again",
    "rebalance-classic-fresh": "The same, within the members' first heartbeat interval",
    "rebalance-consumer": "A group of 3, consumer protocol: a member leaves, until all partitions are consumed again",
    "quic": "As above, 4 producers: Millrace over native QUIC, in Kafka's place Millrace over its Kafka listener",
    "rdkafka": "librdkafka: rdkafka_performance in bulk, then single records of 1 KiB, acks=all",
}

ROWS = [
    Row("exec to first ApiVersions", "start", "start_ms", "ms", (MOST, 1 / 10)),
    Row("exec to its own ready line", "start", "ready_line_ms", "ms"),
    Row("resident, idle", "start", "resident_mib", "MiB"),
    Row("broker CPU", "produce", "cpu_s_per_gb", "CPU-s/GB", (MOST, 1 / 3)),
    Row("throughput", "produce", "mb_s", "MB/s"),
    Row("ack p50", "produce", "ack_p50_us", "us"),
    Row("ack p99", "produce", "ack_p99_us", "us"),
    Row("ack p99.9", "produce", "ack_p99_9_us", "us"),
    Row("client CPU", "produce", "client_cores", "cores"),
    Row("resident after the run", "produce", "resident_mib", "MiB", (MOST, 1 / 5)),
    Row("resident, peak", "produce", "peak_resident_mib", "MiB"),
    Row("throughput", "produce-4", "mb_s", "MB/s", (LEAST, 1)),
    Row("broker CPU", "produce-4", "cpu_s_per_gb", "CPU-s/GB"),
    Row("broker CPU", "produce-4", "broker_cores", "cores"),
    Row("client CPU", "produce-4", "client_cores", "cores"),
    Row("ack p50", "produce-4", "ack_p50_us", "us"),
    Row("ack p99", "produce-4", "ack_p99_us", "us"),
    Row("ack p99.9", "produce-4", "ack_p99_9_us", "us"),
    Row("throughput", "produce-4-java", "mb_s", "MB/s", (LEAST, 1)),
    Row("broker CPU", "produce-4-java", "cpu_s_per_gb", "CPU-s/GB"),
    Row("broker CPU", "produce-4-java", "broker_cores", "cores"),
    Row("client CPU", "produce-4-java", "client_cores", "cores"),
    Row("throughput", "consume", "mb_s", "MB/s", (LEAST, 1)),
    Row("broker CPU", "consume", "cpu_s_per_gb", "CPU-s/GB"),
    Row("client CPU", "consume", "client_cores", "cores"),
    Row("throughput", "consume-bench", "mb_s", "MB/s", (LEAST, 1)),
    Row("broker CPU", "consume-bench", "cpu_s_per_gb", "CPU-s/GB"),
    Row("broker CPU", "consume-bench", "broker_cores", "cores"),
    Row("client CPU", "consume-bench", "client_cores", "cores"),
    Row("end to end p50", "e2e", "e2e_p50_us", "us"),
    Row("end to end p99", "e2e", "e2e_p99_us", "us", (MOST, 1 / 5)),
    Row("end to end p99.9", "e2e", "e2e_p99_9_us", "us"),
    Row("end to end max", "e2e", "e2e_max_us", "us"),
    Row("ack p50", "e2e", "ack_p50_us", "us"),
    Row("ack p99", "e2e", "ack_p99_us", "us"),
    Row("broker CPU", "e2e", "broker_cores", "cores"),
    Row("mean", "e2e-java", "mean_us", "us"),
    Row("p50, whole milliseconds", "e2e-java", "p50_us", "us"),
    Row("p99, whole milliseconds", "e2e-java", "p99_us", "us"),
    Row("p99.9, whole milliseconds", "e2e-java", "p99_9_us", "us"),
    Row("time", "rebalance-classic", "ms", "ms", (MOST, 1 / 2)),
    Row("time", "rebalance-classic-fresh", "ms", "ms"),
    Row("time", "rebalance-consumer", "ms", "ms", (MOST, 1 / 2)),
    Row("throughput", "quic", "quic_mb_s", "MB/s", (WITHIN, 0.25), against="kafka_mb_s"),
    Row("broker CPU", "quic", "quic_cpu_s_per_gb", "CPU-s/GB", against="kafka_cpu_s_per_gb"),
    Row("client CPU", "quic", "quic_client_cpu_s_per_gb", "CPU-s/GB", against="kafka_client_cpu_s_per_gb"),
    Row("produce, throughput", "rdkafka", "produce_mb_s", "MB/s", peer="350 to 960"),
    Row("produce, broker CPU", "rdkafka", "produce_cpu_s_per_gb", "CPU-s/GB", peer="1.0 to 2.7"),
    Row("consume, throughput", "rdkafka", "consume_mb_s", "MB/s", peer="2,100"),
    Row("consume, broker CPU", "rdkafka", "consume_cpu_s_per_gb", "CPU-s/GB", peer="0.3"),
    Row("one at a time, ack p50", "rdkafka", "ack_p50_us", "us", peer="148"),
    Row("1,000 a second, end to end p50", "rdkafka", "e2e_p50_us", "us", peer="320"),
    Row("1,000 a second, end to end p99", "rdkafka", "e2e_p99_us", "us", peer="570"),
    Row("resident after all", "rdkafka", "resident_mib", "MiB", peer="34"),
]


@dataclasses.dataclass
class Outcome:
    """What a row came to."""

    row: Row
    medians: dict
    ratios: list
    ratio: float = None
    met: bool = None
    at_limit: bool = False


def figure_of(sample, name):
    """A figure of a sample, also those that follow from others."""
    if name.endswith("_cores"):
        cpu, wall = sample.get(name.replace("_cores", "_cpu_s")), sample.get("wall_s")
        return cpu / wall if cpu is not None and wall else None
    return sample.get(name)


def outcomes(samples):
    """The rows that have samples. A sample is `pair`, `load`, `config` and `figures`."""
    found = []
    for row in ROWS:
        of_load = [sample for sample in samples if sample["load"] == row.load]
        by_pair = {(sample["config"], sample["pair"]): sample["figures"] for sample in of_load}
        values = {}
        for (config, pair), figures in by_pair.items():
            value = figure_of(figures, row.figure)
            if value is not None:
                values.setdefault(config, {})[pair] = value
        if row.against:
            ours = values.pop(MILLRACE, {})
            other = {pair: figure_of(by_pair[MILLRACE, pair], row.against) for pair in ours}
        else:
            ours, other = values.get(MILLRACE, {}), values.get(KAFKA, {})
        ratios = [ours[pair] / other[pair] for pair in sorted(ours) if other.get(pair)]
        medians = {config: statistics.median(of.values()) for config, of in values.items()}
        if row.against and ours:
            medians = {MILLRACE: statistics.median(ours.values()), "listener": statistics.median(other.values())}
        if not medians:
            continue
        outcome = Outcome(row, medians, ratios)
        if ratios:
            outcome.ratio = statistics.median(ratios)
            outcome.met = _met(row.goal, outcome.ratio)
            outcome.at_limit = _at_limit(row, medians)
        found.append(outcome)
    return found


def _met(goal, ratio):
    if goal is None:
        return None
    kind, bound = goal
    if kind == MOST:
        return ratio <= bound
    if kind == LEAST:
        return ratio >= bound
    return min(ratio, 1 / ratio) >= 1 - bound


def _at_limit(row, medians):
    """Whether a throughput is about what the client reaches without a broker behind it."""
    limit = medians.get(SINK)
    return row.goal is not None and row.goal[0] == LEAST and bool(limit) and medians[MILLRACE] >= CLIENT_LIMIT * limit


def goal_text(row):
    """The goal in words."""
    if row.goal is None:
        return ""
    kind, bound = row.goal
    if kind == WITHIN:
        return f"within {bound:.0%}"
    factor = f"1/{round(1 / bound)}" if bound < 1 else f"{bound:g}"
    return f"{kind} {factor}"

