"""Starts the broker that the clients talk to: Millrace, a cluster of it, Apache Kafka, or one that runs already."""

import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import install

READY_SECONDS = 90
STOP_SECONDS = 20


class BrokerError(Exception):
    """A broker that did not start, or ended by itself."""


class Broker:
    """A broker as a child process; `bootstrap` is its Kafka listener's HOST:PORT."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "wb") as out:
            # It gets no terminal's signals: it is stopped here, when the drivers are through.
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, start_new_session=True)
        self.bootstrap = self._ready()

    def _ready(self):
        end = time.monotonic() + READY_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                self.stop()
                raise BrokerError(f"the broker was not ready within {READY_SECONDS} s; see {self.log}")
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                self.stop()
                said = pathlib.Path(self.log).read_text(errors="replace")[-2000:]
                raise BrokerError(f"the broker ended before it was ready: {said}")
            line += piece
        for word in line.decode().split():
            if word.startswith("kafka="):
                return word.removeprefix("kafka=")
        self.stop()
        raise BrokerError(f"the broker's ready line names no Kafka listener: {line.decode().strip()}")

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Millrace(Broker):
    """The binary, with data in a directory of its own on the disk that holds the cache (direct I/O needs a real one)."""

    # Short times for tests; everything else as a user finds it.
    SETTINGS = {
        "cores": "2",
        "quic": "127.0.0.1:0",
        "http": "127.0.0.1:0",
        "kafka": "127.0.0.1:0",
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.heartbeat.interval.ms": "500",
        "group.consumer.session.timeout.ms": "6000",
    }

    def __init__(self, binary, log):
        install.CACHE.mkdir(parents=True, exist_ok=True)
        self.data = tempfile.mkdtemp(prefix="data-", dir=install.CACHE)
        command = [str(binary), "--data-dir", self.data]
        for key, value in self.SETTINGS.items():
            command += [f"--{key.replace('.', '-')}", value]
        super().__init__(command, log)

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)


class Cluster:
    """Three brokers of the same build, each in a rack of its own, as `millctl cluster up` starts them."""

    NODES = 3

    def __init__(self, binary, log):
        install.CACHE.mkdir(parents=True, exist_ok=True)
        self.millctl = pathlib.Path(binary).with_name("millctl")
        self.data = tempfile.mkdtemp(prefix="cluster-", dir=install.CACHE)
        racks = [f"rack-{number}" for number in range(1, self.NODES + 1)]
        self.environment = dict(os.environ, MILLRACE_BIN=str(binary))
        command = [str(self.millctl), "cluster", "up", "--dir", self.data, "--nodes", str(self.NODES), "--racks", ",".join(racks), "--detach", "--json"]
        try:
            with open(log, "wb") as out:
                up = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, stderr=out, timeout=READY_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.stop()
            raise BrokerError(f"the cluster did not start: {error}") from error
        if up.returncode:
            self.stop()
            raise BrokerError(f"the cluster did not start; see {log}")
        said = json.loads(up.stdout)
        self.brokers = [{**{key: each[key] for key in ("id", "pid", "kafka", "http")}, "rack": rack} for each, rack in zip(said, racks)]
        self.bootstrap = ",".join(each["kafka"] for each in self.brokers)

    def alive(self):
        return any(pathlib.Path(f"/proc/{each['pid']}").exists() for each in self.brokers)

    def stop(self):
        if self.millctl.exists():
            subprocess.run([str(self.millctl), "cluster", "down", "--dir", self.data], env=self.environment, capture_output=True, timeout=READY_SECONDS)
        shutil.rmtree(self.data, ignore_errors=True)


class Apache(Broker):
    def __init__(self, log):
        super().__init__([sys.executable, install.HERE / "apache" / "start"], log)


class Running:
    """A broker that somebody else started."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def alive(self):
        return True

    def stop(self):
        pass
