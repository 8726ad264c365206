"""The load: native producers and a native reader, and a Kafka client's producer and group, each a process with a ledger."""

import importlib
import pathlib
import signal
import subprocess
import sys
import threading
import time

from cluster import VOTERS, Violation

HERE = pathlib.Path(__file__).resolve().parent
GROUP, MEMBERS = "readers", 2
KAFKA_PRODUCER = "k"
LINES, INTERVAL = 10, 0.04
# So that there is something to be stored, and no disk is full without being missed.
PADDING = " " + "." * 400
DELIVERED_WITHIN = 160.0
STOPPED_WITHIN = 30.0


class Producer(threading.Thread):
    """Sends numbered lines through `millctl produce` until it is told to stop, and knows then whether all of them were stored."""

    def __init__(self, cluster, topic, number):
        super().__init__(daemon=True)
        broker = VOTERS[number % len(VOTERS)]
        command = [str(cluster.binaries / "millctl"), "--broker", cluster.listen[broker]["quic"], "produce", topic]
        self.name, self.sent, self.stopping, self.error = str(number), 0, threading.Event(), None
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                      text=True, env=cluster.environment)

    def run(self):
        try:
            while not self.stopping.wait(INTERVAL):
                lines = "".join(f"{self.name}-{at}{PADDING}\n" for at in range(self.sent, self.sent + LINES))
                self.child.stdin.write(lines)
                self.child.stdin.flush()
                self.sent += LINES
            self.child.stdin.close()
        except OSError:
            pass
        said = self.child.stderr.read()
        if self.child.wait() != 0:
            self.error = said.strip() or f"ended with {self.child.returncode}"


class Process:
    """A client whose output is its ledger; it stops when its input ends, or else as with Ctrl-C."""

    def __init__(self, name, command, ledger, environment, writes_itself):
        self.name, self.ledger, self.writes_itself, self.stopped = name, ledger, writes_itself, False
        self.errors = open(ledger.with_suffix(".err"), "w", encoding="utf-8")
        out = subprocess.DEVNULL if writes_itself else open(ledger, "w", encoding="utf-8")
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=self.errors, env=environment)
        if out is not subprocess.DEVNULL:
            out.close()

    def check(self):
        """While it is not told to stop, it goes on."""
        if not self.stopped and self.child.poll() is not None:
            raise Violation(f"{self.name} has ended with {self.child.returncode}: {self.said()}")

    def stop(self, within):
        self.check()
        self.stopped = True
        if self.writes_itself:
            self.child.stdin.close()
        else:
            self.child.send_signal(signal.SIGINT)
        try:
            code = self.child.wait(within)
        except subprocess.TimeoutExpired as late:
            raise Violation(f"{self.name} has not stopped after {within:.0f} s") from late
        if self.writes_itself and code != 0:
            raise Violation(f"{self.name} has ended with {code}: {self.said()}")

    def said(self):
        self.errors.flush()
        return self.ledger.with_suffix(".err").read_text(encoding="utf-8").strip()[-2000:]

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.errors.close()


def kafka_python():
    """The interpreter of the Kafka client, installed as for the interop suites."""
    sys.path.insert(0, str(HERE.parent / "interop"))
    install = importlib.import_module("harness.install")
    try:
        return install.python("confluent-kafka")
    except install.InstallError as error:
        raise RuntimeError(f"confluent-kafka cannot be installed: {error}") from error


class Clients:
    """All of them."""

    def __init__(self, cluster, topic, producers, python, protocol):
        ledgers = cluster.directory / "ledgers"
        ledgers.mkdir()
        self.producers = [Producer(cluster, topic, number) for number in range(producers)]
        for producer in self.producers:
            producer.start()
        follow = [str(cluster.binaries / "millctl"), "--broker", cluster.listen[VOTERS[0]]["quic"], "consume", topic, "--follow",
                  "--format", "%p %o %v\\n"]
        self.follower = Process("the native reader", follow, ledgers / "follower", cluster.environment, False)
        self.kafka_producer, self.members = None, []
        if python is not None:
            begin = [str(python), str(HERE / "kafka_client.py")]
            produce = [*begin, "produce", cluster.bootstrap(), topic, KAFKA_PRODUCER, str(ledgers / KAFKA_PRODUCER)]
            self.kafka_producer = Process("the Kafka producer", produce, ledgers / KAFKA_PRODUCER, cluster.environment, True)
            for member in range(MEMBERS):
                ledger = ledgers / f"member-{member}"
                consume = [*begin, "consume", cluster.bootstrap(), topic, GROUP, str(ledger), protocol]
                self.members.append(Process(f"member {member} of the Kafka group", consume, ledger, cluster.environment, True))

    def processes(self):
        return [each for each in (self.follower, self.kafka_producer, *self.members) if each is not None]

    def check(self):
        """Nobody was told of an error."""
        for producer in self.producers:
            if producer.error is not None:
                raise Violation(f"native producer {producer.name} failed: {producer.error}")
        for process in self.processes():
            process.check()

    def deliver(self):
        """Stops the producers; all that they were given is stored then. Returns how many records the native ones sent, by name."""
        for producer in self.producers:
            producer.stopping.set()
        until = time.monotonic() + DELIVERED_WITHIN
        for producer in self.producers:
            producer.join(max(0.0, until - time.monotonic()))
            if producer.is_alive():
                raise Violation(f"native producer {producer.name} has not delivered all after {DELIVERED_WITHIN:.0f} s")
        self.check()
        if self.kafka_producer is not None:
            self.kafka_producer.stop(DELIVERED_WITHIN)
        return {producer.name: producer.sent for producer in self.producers}

    def stop_readers(self):
        for process in (self.follower, *self.members):
            process.stop(STOPPED_WITHIN)

    def end(self):
        for producer in self.producers:
            producer.child.kill()
        for process in self.processes():
            process.kill()
