"""One run of the suites: which clients, which behaviours, two clients at a time, and what came of it.

Two rounds. In the first every client runs its behaviours; among them it writes the topics that the others read, one
a codec. Then the batches of those topics are looked at as the broker hands them out: a client that says `snappy` must
have left snappy there. In the second round every client reads what all the others wrote.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import uuid

from . import install, table, wire
from .driver import CODECS, CROSS_RECORDS, cross_topic
from .proxy import ProxyServer

# Beyond the sum of its behaviours' times a driver has this for starting and ending.
DRIVER_EXTRA_SECONDS = 30


class UsageError(Exception):
    """A client or behaviour that does not exist."""


@dataclasses.dataclass
class Chosen:
    clients: dict
    behaviours: list


def behaviours():
    return json.loads((install.HERE / "behaviours.json").read_text())


def clients():
    """Name -> client.json of every folder that has one."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(install.HERE.glob("*/client.json"))}


def choose(everyone, all_behaviours, only, ids):
    names = only.split(",") if only else list(everyone)
    for name in names:
        if name not in everyone:
            raise UsageError(f"no client {name}; there are {', '.join(everyone)}")
    wanted = ids.split(",") if ids else None
    kept = [each for each in all_behaviours if not wanted or any(_matches(each["id"], one) for one in wanted)]
    if not kept:
        raise UsageError(f"no behaviour {ids}; see --list")
    return Chosen({name: everyone[name] for name in names}, kept)


def _matches(name, wanted):
    return name.startswith(wanted) if wanted.endswith(".") else name == wanted


def command_of(name, client):
    """Installs the client, and returns the command that starts its driver."""
    kind, here = client["kind"], install.HERE / name
    if kind == "python":
        return [install.python(name), here / "driver.py"]
    if kind == "kcat":
        install.kcat()
        return [sys.executable, here / "driver.py"]
    if kind == "npm":
        return ["env", f"NODE_PATH={install.npm(name)}/node_modules", "node", here / "driver.js"]
    if kind == "java":
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", install.java(name), "Driver"]
    if kind == "go":
        return [install.go(name)]
    raise UsageError(f"{name}/client.json: no kind {kind}")


def install_all(chosen, jobs):
    def one(item):
        name, client = item
        began = time.monotonic()
        try:
            command_of(name, client)
            print(f"{name}: there ({time.monotonic() - began:.0f} s)", flush=True)
            return 0
        except install.InstallError as error:
            print(f"{name}: {error}", flush=True)
            return 1

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return max(pool.map(one, chosen.items()))


def parts(chosen):
    """The behaviours of one broker, and those of a cluster with the clients that show them; `None` where there are none."""
    alone = [each for each in chosen.behaviours if not each.get("cluster")]
    together = [each for each in chosen.behaviours if each.get("cluster")]
    able = {name: client for name, client in chosen.clients.items() if client.get("cluster")}
    return (Chosen(chosen.clients, alone) if alone else None, Chosen(able, together) if together and able else None)


class Outcome:
    """Status and reason of every behaviour of every client."""

    def __init__(self, chosen, seconds=0.0):
        self.chosen = chosen
        self.seconds = seconds
        self.results = {name: {} for name in chosen.clients}

    def note(self, client, behaviour, status, detail="", seconds=0.0):
        self.results[client][behaviour] = {"status": status, "detail": detail, "seconds": seconds}

    def add(self, other):
        """What another part of the run has shown."""
        self.seconds += other.seconds
        for name, results in other.results.items():
            self.results[name].update(results)

    def passed(self, client, behaviour):
        return self.results[client].get(behaviour, {}).get("status") == "pass"

    def good(self):
        every = table.counts(self.results)
        return every["pass"] > 0 and every["fail"] == 0

    def as_json(self):
        return {
            "seconds": round(self.seconds, 1),
            "counts": table.counts(self.results),
            "clients": {name: client["label"] for name, client in self.chosen.clients.items()},
            "behaviours": {each["id"]: each["doc"] for each in self.chosen.behaviours},
            "results": self.results,
        }

    def text(self):
        labels = {name: client["label"] for name, client in self.chosen.clients.items()}
        every = table.counts(self.results)
        closing = f"{every['pass']} passed, {every['fail']} failed, {every['absent']} not offered by the client, in {self.seconds:.0f} s"
        return f"{table.render(labels, self.chosen.behaviours, self.results)}\n\n{closing}"


def run(chosen, serving, jobs, logs):
    began = time.monotonic()
    host, port = serving.bootstrap.split(",")[0].rsplit(":", 1)
    proxy = ProxyServer((host, int(port)))
    prefix = f"i{uuid.uuid4().hex[:6]}"
    outcome = Outcome(chosen)
    drivers = _Drivers(serving, proxy.control, prefix, logs, outcome)
    first = [each for each in chosen.behaviours if not each.get("cross")]
    second = [each for each in chosen.behaviours if each.get("cross")]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda name: drivers.go(name, first, {}), chosen.clients):
            pass
        wrote = written(outcome, serving.bootstrap, prefix)
        if second and any(wrote.values()):
            for _ in pool.map(lambda name: drivers.go(name, second, wrote), chosen.clients):
                pass
    outcome.seconds = time.monotonic() - began
    return outcome


def written(outcome, bootstrap, prefix):
    """Codec -> the clients whose batches of that codec are in the log, as the broker's own answer shows."""
    wrote = {codec: [] for codec in CODECS}
    for client in outcome.results:
        for codec in CODECS:
            if not outcome.passed(client, f"compression.{codec}"):
                continue
            try:
                found, records = wire.codecs_of(bootstrap, cross_topic(prefix, client, codec))
            except (OSError, RuntimeError) as error:
                outcome.note(client, f"compression.{codec}", "fail", f"looking at the stored batches: {error}")
                continue
            if found != {codec} or records != CROSS_RECORDS:
                stored = f"{records} records in batches of {', '.join(sorted(found)) or 'nothing'}"
                outcome.note(client, f"compression.{codec}", "fail", f"the log holds {stored}")
            else:
                wrote[codec].append(client)
    return wrote


class _Drivers:
    """Starts drivers and reads what they say."""

    def __init__(self, serving, control, prefix, logs, outcome):
        self.serving, self.control, self.prefix = serving, control, prefix
        self.logs, self.outcome = logs, outcome

    def go(self, name, behaviours, cross):
        client = self.outcome.chosen.clients[name]
        wanted = {}
        for each in behaviours:
            if any(each.get(kind) and not client.get(needed) for kind, needed in (("tool", "tools"), ("cluster", "cluster"))):
                continue
            reason = _absence(client, each["id"])
            if reason:
                self.outcome.note(name, each["id"], "absent", reason)
            else:
                wanted[each["id"]] = each["seconds"]
        if not wanted:
            return
        try:
            ended = self._drive(name, command_of(name, client), wanted, cross)
        except install.InstallError as error:
            ended = f"not installed: {error}"
        except OSError as error:
            ended = f"the driver did not start: {error}"
        for each in wanted:
            if each not in self.outcome.results[name]:
                alive = "" if self.serving.alive() else "; the broker is gone"
                self.outcome.note(name, each, "fail", f"{ended}{alive}")

    def _drive(self, name, command, wanted, cross):
        """Runs one driver; returns how it ended."""
        command = [*map(str, command), "--bootstrap", self.serving.bootstrap, "--client", name, "--prefix", self.prefix]
        command += ["--proxy", self.control, "--behaviours", json.dumps(wanted)]
        command += ["--cross", json.dumps(cross)] if cross else []
        brokers = getattr(self.serving, "brokers", None)
        command += ["--brokers", json.dumps(brokers)] if brokers else []
        log = pathlib.Path(self.logs, f"{name}{'-cross' if cross else '-cluster' if brokers else ''}.log")
        with open(log, "wb") as out:
            driver = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, start_new_session=True)
        killer = _Killer(driver, sum(wanted.values()) + DRIVER_EXTRA_SECONDS)
        with driver.stdout:
            for line in driver.stdout:
                self._hear(name, line)
        code = driver.wait()
        killer.end_session()
        if killer.stop():
            return "the driver hung and was ended"
        return f"the driver did not report it (it ended with {code}; see {log})"

    def _hear(self, name, line):
        try:
            said = json.loads(line)
            self.outcome.note(name, said["id"], said["status"], said["detail"], said["seconds"])
        except (ValueError, KeyError, TypeError):
            return
        mark = table.MARKS[said["status"]]
        print(f"{name:16} {said['id']:24} {mark:4} {said['seconds']:6.2f} s  {said['detail']}", file=sys.stderr, flush=True)


class _Killer:
    """Ends a driver that takes longer than it may, and what a driver left running."""

    def __init__(self, driver, seconds):
        self.driver, self.fired = driver, False
        self.timer = threading.Timer(seconds, self._fire)
        self.timer.daemon = True
        self.timer.start()

    def _fire(self):
        self.fired = True
        self.end_session()

    def end_session(self):
        try:
            os.killpg(self.driver.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self):
        self.timer.cancel()
        return self.fired


def _absence(client, behaviour):
    """Why the client does not offer the behaviour, if it does not; an id that ends in a dot stands for all of its kind."""
    for name, reason in client.get("absent", {}).items():
        if _matches(behaviour, name):
            return reason
    return None
