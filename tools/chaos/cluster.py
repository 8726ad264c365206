"""The brokers: their certificates, settings and processes, each of which may end at any time.

Each broker is started with settings that this module writes, on loopback, or where a `Network` and `Disks` put it. What is known of
the cluster's state is what `millctl` says of it.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

VOTERS = (1, 2, 3)
SPARE = 4
HEALTHY_WITHIN = 45.0
SERVES_WITHIN = 30.0
# Above `shutdown.timeout.ms`: one that cannot reach the quorum gives up asking.
STOPPED_WITHIN = 25.0
# Fixed where every broker has an address of its own.
PORTS = {"quic": 9644, "kafka": 9092, "http": 9645}
# Below those that Linux gives to outgoing connections, one of which would be in the way of a restart.
FREE_PORTS = range(10_000, 32_000)
TOOL_SECONDS = 120


class Violation(Exception):
    """Something that must hold does not."""


def free_port(chance, taken):
    while True:
        port = chance.choice(FREE_PORTS)
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            taken.add(port)
            return port


class Cluster:
    """Three voters, and a fourth broker that joins when it is started."""

    def __init__(self, binaries, directory, chance, network=None, disks=None):
        self.binaries, self.directory, self.network, self.disks = binaries.resolve(), directory, network, disks
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        self.environment["XDG_CONFIG_HOME"] = str(directory / "config")
        self.children, self.running, self.logs_from = {}, set(), {}
        taken = set()
        self.listen = {broker: self.endpoints(broker, chance, taken) for broker in (*VOTERS, SPARE)}
        self.make_settings()

    def endpoints(self, broker, chance, taken):
        if self.network is not None:
            return {name: f"{self.network.address(broker)}:{port}" for name, port in PORTS.items()}
        return {name: f"127.0.0.1:{free_port(chance, taken)}" for name in PORTS}

    def make_settings(self):
        certs = self.directory / "certs"
        brokers = ",".join(str(broker) for broker in self.listen)
        made = json.loads(self.millctl("certs", "--dir", str(certs), "--nodes", brokers, "--json", check=True).stdout)
        files = {broker["id"]: broker for broker in made["brokers"]}
        voters = ",".join(f"{voter}@{self.listen[voter]['quic']}" for voter in VOTERS)
        for broker, listen in self.listen.items():
            settings = {
                "node.id": broker, "data.dir": str(self.place(broker) / "data"), **listen, "cores": 1,
                "cluster.id": made["cluster_id"], "controller.quorum.voters": voters, "advertised.quic": listen["quic"],
                "tls.certificate.file": files[broker]["certificate"], "tls.key.file": files[broker]["key"],
                "tls.ca.file": made["authority"]["certificate"], "default.replication.factor": 3, "min.insync.replicas": 2,
                # Few, so that moves and failovers of all of them fit into a round.
                "offsets.topic.num.partitions": 4,
            }
            self.place(broker).mkdir(parents=True, exist_ok=True)
            text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
            (self.place(broker) / "millrace.toml").write_text(text, encoding="utf-8")

    def place(self, broker):
        return self.directory / f"broker-{broker}"

    def bootstrap(self):
        return ",".join(self.listen[voter]["kafka"] for voter in VOTERS)

    def millctl(self, *arguments, check=False, timeout=TOOL_SECONDS):
        command = [str(self.binaries / "millctl"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment)
        if check and done.returncode != 0:
            raise Violation(f"{' '.join(command)}: {done.stderr.strip()}")
        return done

    def ask(self, broker, *arguments, **options):
        return self.millctl("--broker", self.listen[broker]["quic"], *arguments, **options)

    def start(self, broker):
        inside = [] if self.network is None else self.network.inside(broker)
        command = [*inside, str(self.binaries / "millrace"), "serve", "--config", str(self.place(broker) / "millrace.toml")]
        with open(self.place(broker) / "broker.log", "a", encoding="utf-8") as log:
            self.logs_from[broker] = log.tell()
            self.children[broker] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=self.environment)
        self.running.add(broker)

    def signal(self, broker, number):
        """Sends what ends it, and does not wait for that."""
        self.running.discard(broker)
        self.children[broker].send_signal(number)

    def await_end(self, broker):
        try:
            return self.children[broker].wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired as late:
            raise Violation(f"broker {broker} has not ended after {STOPPED_WITHIN:.0f} s") from late

    def kill(self, broker):
        self.signal(broker, signal.SIGKILL)
        self.await_end(broker)

    def stop(self, broker):
        """Stops it in good order."""
        self.signal(broker, signal.SIGTERM)
        code = self.await_end(broker)
        # Without space it cannot leave the mark of a clean end, says so, and recovers when it comes back.
        is_full = self.disks is not None and broker in self.disks.full and "the shutdown was not clean" in self.said(broker)
        if code != 0 and not is_full:
            raise Violation(f"broker {broker} was asked to stop and ended with {code}")

    def pause(self, broker):
        self.children[broker].send_signal(signal.SIGSTOP)

    def resume(self, broker):
        self.children[broker].send_signal(signal.SIGCONT)

    def check_running(self):
        """A broker ends when it is told to, and not otherwise."""
        for broker in self.running:
            code = self.children[broker].poll()
            if code is not None:
                said = "\n".join(self.said(broker).splitlines()[-8:])
                raise Violation(f"broker {broker} has ended by itself, with {code}:\n{said}")

    def said(self, broker):
        """Its log since it was started."""
        with open(self.place(broker) / "broker.log", encoding="utf-8", errors="replace") as log:
            log.seek(self.logs_from[broker])
            return log.read()

    def start_for_space(self, broker):
        """Starts a broker again that did not come to serve because its disk was full, which it says; one that served goes on."""
        ended = broker in self.running and self.children[broker].poll() is not None
        if ended and "No space left" in self.said(broker) and " serving " not in self.said(broker):
            self.start(broker)

    def healthy(self, within=HEALTHY_WITHIN):
        """Waits until every broker says that all is well; how long that took. What a broker remembers looks well before it has
        joined again, so it must answer about topics first.
        """
        began, said = time.monotonic(), ""
        while time.monotonic() - began < within:
            self.check_running()
            questions = (("topic", "list"), ("cluster", "health"))
            answers = [self.ask(broker, "--timeout", "5", *question) for question in questions for broker in sorted(self.running)]
            if all(answer.returncode == 0 for answer in answers):
                return time.monotonic() - began
            said = "\n".join(answer.stdout + answer.stderr for answer in answers)
            time.sleep(0.05)
        raise Violation(f"the cluster is not healthy after {within:.0f} s:\n{said}")

    def patiently(self, what, *arguments, within=HEALTHY_WITHIN):
        """Asks one broker after the other until one does it: while faults are on, some cannot."""
        until, said = time.monotonic() + within, ""
        while time.monotonic() < until:
            for broker in sorted(self.running):
                done = self.ask(broker, "--timeout", "3", *arguments)
                if done.returncode == 0:
                    return done
                said = done.stderr
            time.sleep(0.1)
        raise Violation(f"{what} is not done after {within:.0f} s: {said.strip()}")

    def topic(self, name):
        """Its partitions, as `topic describe` tells them."""
        return json.loads(self.patiently("topic describe", "topic", "describe", name, "--json").stdout)["partitions"]

    def clear(self, broker):
        """Forgets all that a stopped broker has stored."""
        if self.disks is not None:
            self.disks.clear(broker)
        else:
            shutil.rmtree(self.place(broker) / "data", ignore_errors=True)

    def end(self):
        for child in self.children.values():
            if child.poll() is None:
                child.kill()
                child.wait()


def data_places(directory):
    """Where the brokers' data will be: file systems are mounted there before there is a cluster."""
    return {broker: pathlib.Path(directory) / f"broker-{broker}" / "data" for broker in (*VOTERS, SPARE)}
