"""The clients, each run once against a broker; what they print becomes figures by name.

Throughput is in MB of 1,000,000 value bytes a second, latency in microseconds.
"""

import json
import os
import re
import subprocess

from . import install

# What Kafka's own scripts give the tools' JVM.
TOOL_HEAP = "-Xmx512M"

# A client that takes longer than this hangs.
CLIENT_SECONDS = 600


class ClientFailed(Exception):
    """A client ended with an error, or printed something else than it should."""


def _ended(command):
    command = [str(part) for part in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS, env=environment, check=False)


def run(command):
    """What a command printed."""
    done = _ended(command)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise ClientFailed(f"{done.args[0]} ended with {done.returncode}: {said}")
    return done.stdout


def _java(*arguments):
    logging = install.HERE / "kafka" / "tools-log4j2.properties"
    class_path = f"{install.JARS}/*:{install.CLASSES}"
    return ["java", TOOL_HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", class_path, *arguments]


def producer_perf(broker, topic, records, size, properties):
    """Command of Kafka's producer-perf-test, without a limit to its rate."""
    command = _java("org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", broker.kafka, "--topic", topic,
                    "--num-records", records, "--record-size", size, "--throughput", -1, "--command-property")
    return command + [f"{name}={value}" for name, value in properties.items()]


PRODUCED = re.compile(
    r"^(?P<records>\d+) records sent, (?P<rate>[\d.]+) records/sec .*?(?P<avg>[\d.]+) ms avg latency, "
    r"(?P<max>[\d.]+) ms max latency, (?P<p50>\d+) ms 50th, (?P<p95>\d+) ms 95th, (?P<p99>\d+) ms 99th, "
    r"(?P<p99_9>\d+) ms 99.9th", re.MULTILINE)


def produced(printed, size):
    """The summary of producer-perf-test, which is its last line."""
    found = list(PRODUCED.finditer(printed))
    if not found:
        raise ClientFailed(f"producer-perf-test printed no summary:\n{printed[-2000:]}")
    last = found[-1]
    quantiles = {f"ack_{name}_us": float(last[name]) * 1000 for name in ("p50", "p95", "p99", "p99_9", "max")}
    return {"bytes": int(last["records"]) * size, "mb_s": float(last["rate"]) * size / 1e6, **quantiles}


def consumer_perf(broker, topic, records, size):
    """Kafka's consumer-perf-test over the whole topic; throughput without the time it took to join its group."""
    printed = run(_java("org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", broker.kafka,
                        "--topic", topic, "--num-records", records, "--hide-header"))
    fields = printed.strip().splitlines()[-1].split(", ")
    if len(fields) != 10:
        raise ClientFailed(f"consumer-perf-test printed no summary:\n{printed[-2000:]}")
    consumed, fetch_ms = int(fields[4]), int(fields[7])
    return {"bytes": consumed * size, "mb_s": consumed * size / 1e3 / fetch_ms}


def end_to_end_latency(broker, topic, records, size):
    """Kafka's end-to-end latency tool: one record at a time, sent, acknowledged by all, and read. Its
    percentiles are whole milliseconds."""
    printed = run(_java("org.apache.kafka.tools.EndToEndLatency", broker.kafka, topic, records, "all", size))
    average = re.search(r"Avg latency: ([\d.]+) ms", printed)
    found = re.search(r"50th = (\d+), 99th = (\d+), 99.9th = (\d+)", printed)
    if not average or not found:
        raise ClientFailed(f"the end-to-end tool printed no summary:\n{printed[-2000:]}")
    p50, p99, p99_9 = (float(part) * 1000 for part in found.groups())
    return {"mean_us": float(average[1]) * 1000, "p50_us": p50, "p99_us": p99, "p99_9_us": p99_9}


def rebalance(broker, topic, partitions, protocol, rounds, settled_ms):
    """Milliseconds until all partitions are consumed again, a figure for each round."""
    printed = run(_java("Rebalance", broker.kafka, topic, partitions, protocol, rounds, settled_ms))
    return [float(line) for line in printed.split()]


def bench(binary, mode, broker, target, *options):
    """A report of millrace-bench."""
    # It ends with an error when a rate was not reached; the report says so too.
    done = _ended([binary, mode, *target, "--broker-pid", broker.pid, "--json", *options])
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise ClientFailed(f"millrace-bench {mode}: {done.stderr.strip()[-2000:]}") from None
    if report["errors"]:
        raise ClientFailed(f"millrace-bench {mode}: {report['errors']}")
    return report


def rdkafka_produce(program, broker, topic, records, size, partitions):
    """librdkafka's performance client, producing with acknowledgements from all."""
    printed = run([program, "-P", "-t", topic, "-b", broker.kafka, "-c", records, "-s", size, "-a", -1, "-q",
                   "-X", "linger.ms=5", "-X", "batch.size=131072", "-X", "queue.buffering.max.kbytes=262144"])
    found = re.findall(r"(\d+) delivered .* in (\d+)ms", printed)
    if not found:
        raise ClientFailed(f"rdkafka_performance printed no summary:\n{printed[-2000:]}")
    delivered, milliseconds = map(int, found[-1])
    if delivered != records:
        raise ClientFailed(f"rdkafka_performance delivered {delivered} of {records} records")
    return {"bytes": delivered * size, "mb_s": delivered * size / 1e3 / milliseconds}


def rdkafka_consume(program, broker, topic, records, size):
    """librdkafka's performance client, reading partition 0 from its start."""
    printed = run([program, "-C", "-t", topic, "-p", 0, "-b", broker.kafka, "-o", "beginning", "-c", records, "-q",
                   "-X", "fetch.message.max.bytes=4194304", "-X", "queued.max.messages.kbytes=131072"])
    found = re.findall(r"(\d+) messages \(\d+ bytes\) consumed in (\d+)ms", printed)
    if not found:
        raise ClientFailed(f"rdkafka_performance printed no summary:\n{printed[-2000:]}")
    consumed, milliseconds = map(int, found[-1])
    return {"bytes": consumed * size, "mb_s": consumed * size / 1e3 / milliseconds}


def rdkafka_latency(program, mode, broker, topic, records, size, *rate):
    """Single records through librdkafka: latencies in microseconds, sorted."""
    printed = run([program, mode, broker.kafka, topic, records, size, *rate])
    return sorted(int(line) / 1000 for line in printed.split())


def quantile(ordered, share):
    """A value of a sorted list."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
