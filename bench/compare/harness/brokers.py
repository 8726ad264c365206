"""The brokers: each is started in an empty directory, watched through /proc, and stopped by its process id."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from . import install, proc, wire

READY_SECONDS = 60
STOP_SECONDS = 30

# A start is timed by asking for an answer this often.
ASK_SECONDS = 0.002

# What kafka-server-start.sh and kafka-run-class.sh give the JVM unless told otherwise.
BROKER_JVM = [
    "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
]


def free_ports(count):
    """Ports that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Broker:
    """A running broker."""

    def __init__(self, config, process, address, directory):
        self.config, self.process, self.address, self.directory = config, process, address, directory
        self.start_ms = None
        self.ready_line_ms = None
        self.quic = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def kafka(self):
        return f"{self.address[0]}:{self.address[1]}"

    def create_topic(self, name, partitions):
        wire.create_topic(self.address, name, partitions)

    def usage(self):
        """CPU-seconds so far, resident MiB, and resident MiB at the peak."""
        return (proc.cpu_seconds(self.pid), *proc.memory(self.pid))

    def _await_answer(self, began):
        while not wire.answers(self.address):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.config} ended with {self.process.returncode}; see {self.directory}")
            if time.monotonic() - began > READY_SECONDS:
                raise RuntimeError(f"{self.config} did not answer within {READY_SECONDS} s")
            time.sleep(ASK_SECONDS)
        self.start_ms = (time.monotonic() - began) * 1000

    def _stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _spawn(command, directory, **options):
    with open(directory / "broker.err", "wb") as errors:
        return subprocess.Popen([str(part) for part in command], stderr=errors, **options)


def _start_kafka(config, directory, flush):
    port, controller_port = free_ports(2)
    log_dirs, properties = directory / "data", directory / "server.properties"
    text = (install.HERE / "kafka" / "server.properties").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    text = text.format(port=port, controller_port=controller_port, log_dirs=log_dirs)
    if flush:
        text += "\nlog.flush.interval.messages=1\n"
    properties.write_text(text)
    _formatted(log_dirs, properties)
    logging = install.HERE / "kafka" / "broker-log4j2.properties"
    command = ["java", *BROKER_JVM, f"-Dkafka.logs.dir={directory}", f"-Dlog4j2.configurationFile={logging}",
               "-cp", f"{install.kafka()}/*", "kafka.Kafka", properties]
    began = time.monotonic()
    process = _spawn(command, directory, stdout=subprocess.DEVNULL)
    broker = Broker(config, process, ("127.0.0.1", port), directory)
    return broker, began


def _formatted(log_dirs, properties):
    """A formatted directory. What `kafka-storage format` makes is the same each time, so it runs once."""
    template = install.PLACE / f"formatted-{install.kafka_version()}"
    if not template.exists():
        command = ["java", f"-Dlog4j2.configurationFile={install.HERE / 'kafka' / 'tools-log4j2.properties'}",
                   "-cp", f"{install.kafka()}/*", "kafka.tools.StorageTool", "format",
                   "-t", "bWlsbHJhY2UtY29tcGFyZQ", "-c", str(properties)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(log_dirs, template)
    else:
        shutil.copytree(template, log_dirs)


def _start_millrace(config, directory, binary, flags):
    (port,) = free_ports(1)
    command = [binary, "--data-dir", directory / "data", "--kafka", f"127.0.0.1:{port}", "--quic", "127.0.0.1:0",
               "--http", "127.0.0.1:0", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    began = time.monotonic()
    process = _spawn(command, directory, stdout=subprocess.PIPE, env=environment, text=True)
    broker = Broker(config, process, ("127.0.0.1", port), directory)

    def read_ready_line():
        line = process.stdout.readline()
        broker.ready_line_ms = (time.monotonic() - began) * 1000
        addresses = dict(part.split("=", 1) for part in line.split()[1:])
        broker.quic = addresses.get("quic")

    reader = threading.Thread(target=read_ready_line, daemon=True)
    reader.start()
    broker.reader = reader
    return broker, began


def _start_sink(config, directory, bench):
    (port,) = free_ports(1)
    began = time.monotonic()
    process = _spawn([bench, "sink", "--listen", f"127.0.0.1:{port}"], directory, stdout=subprocess.DEVNULL)
    return Broker(config, process, ("127.0.0.1", port), directory), began


@contextlib.contextmanager
def running(config, options):
    """A fresh broker of a configuration, answering; stopped and removed at the end."""
    parent = pathlib.Path(options.dir)
    parent.mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{config}.", dir=parent))
    broker, failed = None, True
    try:
        if config == "millrace":
            broker, began = _start_millrace(config, directory, options.binary, options.millrace_flag)
        elif config == "sink":
            broker, began = _start_sink(config, directory, options.bench)
        else:
            broker, began = _start_kafka(config, directory, flush=config == "kafka-flush")
        broker._await_answer(began)
        if config == "millrace":
            broker.reader.join(READY_SECONDS)
        yield broker
        failed = False
    finally:
        if broker is not None:
            broker._stop()
        if not failed or not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        # What one broker left in the page cache must not be written back on the other's time.
        os.sync()
