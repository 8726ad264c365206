"""What a driver written in Python needs: it runs behaviours one after the other, each within its time, and says how it went.

A driver is started as `driver --bootstrap HOST:PORT --prefix NAME --proxy HOST:PORT --behaviours JSON [--cross JSON]`
and prints one JSON line a behaviour: `{"id", "status": "pass" | "fail" | "absent", "detail", "seconds"}`. A behaviour
that hangs is a failure after its time, and the next one begins; its thread is left behind and ends with the process.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
import traceback

# What every client writes into the topics that the others read, and how much of it.
CROSS_RECORDS = 60
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Absent(Exception):
    """The client does not offer this; its text says why."""


def check(holds, text):
    """Fails the behaviour with `text` unless `holds`."""
    if not holds:
        raise AssertionError(text)


def equal(got, wanted, what):
    """Fails the behaviour unless both are the same; long values are shortened in the message."""
    if got != wanted:
        raise AssertionError(f"{what}: got {short(got)}, wanted {short(wanted)}")


def short(value, limit=200):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def until(condition, what, seconds=15.0, pause=0.05):
    """Waits for a true value and returns it; fails the behaviour when it does not come."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(pause)


def cross_topic(prefix, client, codec):
    return f"{prefix}-cross-{client}-{codec}"


def cross_record(client, codec, number):
    """The record that `client` writes at offset `number`: key, value, the value of its header `codec`."""
    value = f"{client} {codec} {number} " + "abcdefghij" * 20
    return f"k-{number}".encode(), value.encode(), codec.encode()


class Proxy:
    """Doors into the broker that a driver can have slammed: see harness/proxy.py."""

    def __init__(self, control):
        host, port = control.rsplit(":", 1)
        self.control = (host, int(port))

    def _ask(self, **request):
        with socket.create_connection(self.control, timeout=10) as link:
            link.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(link.makefile().readline())

    def open(self, mode="plain"):
        """A new door; `cut` makes it cut connections in the middle of produce requests. Returns its HOST:PORT."""
        return self._ask(do="open", mode=mode)["address"]

    def sever(self, address):
        """Cuts what goes through the door, and lets nothing in again: to the broker its clients are dead."""
        self._ask(do="sever", address=address)

    def cuts(self, address):
        """How often the door has cut a connection in the middle of a produce request."""
        return self._ask(do="count", address=address)["cuts"]


class Context:
    """Where a behaviour runs: the broker, names of its own, doors that can be slammed, what other clients wrote."""

    def __init__(self, arguments):
        self.bootstrap = arguments.bootstrap
        self.prefix = arguments.prefix
        self.client = arguments.client
        self.proxy = Proxy(arguments.proxy)
        self.cross = json.loads(arguments.cross)

    def name(self, what):
        """A topic's or a group's name that nobody else uses."""
        return f"{self.prefix}-{self.client}-{what}"


class Suite:
    """The behaviours of one client. A scenario is a generator that yields the id of each step it has shown."""

    def __init__(self):
        self.runs = []

    def behaviour(self, name):
        def register(function):
            self.runs.append(((name,), function))
            return function

        return register

    def scenario(self, *names):
        def register(function):
            self.runs.append((names, function))
            return function

        return register

    def main(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--bootstrap", required=True)
        parser.add_argument("--client", required=True)
        parser.add_argument("--prefix", required=True)
        parser.add_argument("--proxy", required=True)
        parser.add_argument("--behaviours", required=True, help='JSON: {"id": seconds}')
        parser.add_argument("--cross", default="{}", help='JSON: {"codec": ["client", ...]}')
        arguments = parser.parse_args()
        wanted = json.loads(arguments.behaviours)
        context = Context(arguments)
        for names, function in self.runs:
            if any(name in wanted for name in names):
                seconds = sum(wanted.get(name, 0) for name in names)
                _Run(names, function).go(context, seconds, wanted)
        # Threads that hang do not keep the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Run:
    """One behaviour or scenario under way; each of its names is reported once."""

    def __init__(self, names, function):
        self.left = list(names)
        self.function = function
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def go(self, context, seconds, wanted):
        self.wanted = wanted
        thread = threading.Thread(target=self._inside, args=(context,), daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            frame = sys._current_frames().get(thread.ident)
            where = traceback.extract_stack(frame)[-1] if frame else None
            self._end("fail", f"no end within {seconds:g} s" + (f", at {where.name}:{where.lineno}" if where else ""))

    def _inside(self, context):
        try:
            steps = self.function(context)
            if hasattr(steps, "__next__"):
                for name in steps:
                    self._report(name, "pass", "")
            self._end("pass", "")
        except Absent as absent:
            self._end("absent", str(absent))
        except BaseException as error:  # whatever a client throws is a failure to be shown
            traceback.print_exc()
            self._end("fail", f"{type(error).__name__}: {error}" if not isinstance(error, AssertionError) else str(error))

    def _report(self, name, status, detail):
        with self.lock:
            if name not in self.left:
                return
            self.left.remove(name)
            took = time.monotonic() - self.began
            self.began = time.monotonic()
            if name in self.wanted:
                line = {"id": name, "status": status, "detail": " ".join(detail.split())[:500], "seconds": round(took, 2)}
                print(json.dumps(line), flush=True)

    def _end(self, status, detail):
        for place, name in enumerate(list(self.left)):
            # What comes after a failed step was never tried.
            self._report(name, status, detail if place == 0 or status != "fail" else f"not reached: {detail}")
