"""The rows of the table: which figure of which load, what it should reach, and what came of it."""

import dataclasses
import statistics

from .loads import FLUSH, KAFKA, MILLRACE


@dataclasses.dataclass(frozen=True)
class Row:
    """A row. The goal is held against the median of the pairs' ratios, Millrace's figure over Kafka's."""

    title: str
    load: str
    figure: str
    unit: str
    # "at most" or "at least" this times Kafka's figure, or None where only the figures are of interest.
    goal: tuple = None
    # A figure of another broker that the issue of this comparison quotes, for orientation.
    peer: str = ""
    # The figure of the other side where that is not the same figure of Kafka.
    against: str = None

    @property
    def lower_is_better(self):
        return self.unit not in ("MB/s", "records/s")


MOST, LEAST, WITHIN = "at most", "at least", "within"

ROWS = [
    Row("start-up, exec to ApiVersions", "start", "start_ms", "ms", (MOST, 1 / 10)),
    Row("idle broker, resident", "start", "resident_mib", "MiB"),
    Row("produce, broker CPU", "produce", "cpu_s_per_gb", "CPU-s/GB", (MOST, 1 / 3)),
    Row("produce, throughput", "produce", "mb_s", "MB/s"),
    Row("produce, ack p50", "produce", "ack_p50_us", "us"),
    Row("produce, ack p99", "produce", "ack_p99_us", "us"),
    Row("produce, ack p99.9", "produce", "ack_p99_9_us", "us"),
    Row("resident after producing", "produce", "resident_mib", "MiB", (MOST, 1 / 5)),
    Row("4 producers, throughput", "produce-4", "mb_s", "MB/s", (LEAST, 1)),
    Row("4 producers, broker CPU", "produce-4", "cpu_s_per_gb", "CPU-s/GB"),
    Row("4 producers, client CPU", "produce-4", "client_cores", "cores"),
    Row("4 producers, broker CPU", "produce-4", "broker_cores", "cores"),
    Row("4 producers, ack p50", "produce-4", "ack_p50_us", "us"),
    Row("4 producers, ack p99", "produce-4", "ack_p99_us", "us"),
    Row("4 producers, ack p99.9", "produce-4", "ack_p99_9_us", "us"),
    Row("4 Java producers, throughput", "produce-4-java", "mb_s", "MB/s", (LEAST, 1)),
    Row("4 Java producers, client CPU", "produce-4-java", "client_cores", "cores"),
    Row("4 Java producers, broker CPU", "produce-4-java", "cpu_s_per_gb", "CPU-s/GB"),
    Row("consume (Java), throughput", "consume", "mb_s", "MB/s", (LEAST, 1)),
    Row("consume (Java), broker CPU", "consume", "cpu_s_per_gb", "CPU-s/GB"),
    Row("consume (Java), client CPU", "consume", "client_cores", "cores"),
    Row("consume, throughput", "consume-bench", "mb_s", "MB/s", (LEAST, 1)),
    Row("consume, broker CPU", "consume-bench", "cpu_s_per_gb", "CPU-s/GB"),
    Row("consume, client CPU", "consume-bench", "client_cores", "cores"),
    Row("1,000 records/s, end to end p50", "e2e", "e2e_p50_us", "us"),
    Row("1,000 records/s, end to end p99", "e2e", "e2e_p99_us", "us", (MOST, 1 / 5)),
    Row("1,000 records/s, end to end p99.9", "e2e", "e2e_p99_9_us", "us"),
    Row("one at a time (Java), mean", "e2e-java", "mean_us", "us"),
    Row("one at a time (Java), p99", "e2e-java", "p99_us", "us"),
    Row("rebalance after a leave, classic", "rebalance-classic", "ms", "ms", (MOST, 1 / 2)),
    Row("rebalance after a leave, consumer", "rebalance-consumer", "ms", "ms", (MOST, 1 / 2)),
    Row("native QUIC (Millrace) against its Kafka listener (Kafka)", "quic", "quic_mb_s", "MB/s", (WITHIN, 0.25), against="kafka_mb_s"),
    Row("  broker CPU of the two", "quic", "quic_cpu_s_per_gb", "CPU-s/GB", against="kafka_cpu_s_per_gb"),
    Row("  client CPU of the two", "quic", "quic_client_cpu_s_per_gb", "CPU-s/GB", against="kafka_client_cpu_s_per_gb"),
    Row("librdkafka, produce", "rdkafka", "produce_mb_s", "MB/s", peer="350 to 960"),
    Row("librdkafka, produce, broker CPU", "rdkafka", "produce_cpu_s_per_gb", "CPU-s/GB", peer="1.0 to 2.7"),
    Row("librdkafka, consume", "rdkafka", "consume_mb_s", "MB/s", peer="2,100"),
    Row("librdkafka, consume, broker CPU", "rdkafka", "consume_cpu_s_per_gb", "CPU-s/GB", peer="0.3"),
    Row("librdkafka, one at a time, ack p50", "rdkafka", "ack_p50_us", "us", peer="148"),
    Row("librdkafka, end to end p50", "rdkafka", "e2e_p50_us", "us", peer="320"),
    Row("librdkafka, end to end p99", "rdkafka", "e2e_p99_us", "us", peer="570"),
    Row("librdkafka, resident after all", "rdkafka", "resident_mib", "MiB", peer="34"),
]


@dataclasses.dataclass
class Outcome:
    """What a row came to."""

    row: Row
    medians: dict
    ratios: list
    ratio: float = None
    met: bool = None


def _figure(sample, name):
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
            value = _figure(figures, row.figure)
            if value is not None:
                values.setdefault(config, {})[pair] = value
        if row.against:
            ours = values.pop(MILLRACE, {})
            other = {pair: _figure(by_pair[MILLRACE, pair], row.against) for pair in ours}
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


def goal_text(row):
    """The goal in words."""
    if row.goal is None:
        return ""
    kind, bound = row.goal
    if kind == WITHIN:
        return f"within {bound:.0%}"
    factor = f"1/{round(1 / bound)}" if bound < 1 else f"{bound:g}"
    return f"{kind} {factor}"


__all__ = ["FLUSH", "KAFKA", "MILLRACE", "ROWS", "goal_text", "outcomes"]
