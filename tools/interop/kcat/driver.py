"""kcat (Debian's, with Debian's librdkafka): what it is asked to show is in ../behaviours.json.

It makes no topics, so they are made for it; everything else is what a user types.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import wire  # noqa: E402
from harness.driver import CODECS, CROSS_RECORDS, Suite, check, cross_record, cross_topic, equal, until  # noqa: E402
from harness.groups import each_once, share_out, three_members  # noqa: E402

suite = Suite()
TIMEOUT = 20
KCAT = shutil.which("kcat")


def kcat(context, *arguments, stdin=b"", bootstrap=None, fails=None):
    """Runs kcat and returns what it prints; it must fail with this text if one is given."""
    quiet = [] if fails else ["-q"]
    done = subprocess.run([KCAT, *quiet, "-b", bootstrap or context.bootstrap, *arguments], input=stdin, capture_output=True, timeout=TIMEOUT)
    said = done.stderr.decode(errors="replace").strip()
    if fails:
        check(fails in said, f"kcat ended with {done.returncode} and said {said!r}, wanted {fails!r}")
    else:
        check(done.returncode == 0, f"kcat {' '.join(arguments)} ended with {done.returncode}: {said[-300:]}")
    return done.stdout


def options(settings):
    return [word for key, value in settings.items() for word in ("-X", f"{key}={value}")]


def make_topic(context, what, partitions=1, config=None, full=None):
    name = full or context.name(what)
    wire.create_topic(context.bootstrap, name, partitions, config)
    return name


def send(context, topic, lines, *arguments, **settings):
    """Sends one record a line."""
    kcat(context, "-P", "-t", topic, *arguments, *options(settings), stdin=b"".join(line + b"\n" for line in lines))


def read(context, topic, count, *arguments, partition=0, offset="beginning", **settings):
    """Reads so many records of one partition, as kcat's JSON."""
    place = ["-p", str(partition)] if partition is not None else []
    said = kcat(context, "-C", "-J", "-t", topic, *place, "-o", str(offset), "-c", str(count), *arguments, *options(settings))
    got = [json.loads(line) for line in said.splitlines()]
    equal(len(got), count, "records")
    return got


def values(records):
    return [each["payload"] for each in records]


def cross_lines(client, codec):
    wanted = [cross_record(client, codec, number) for number in range(CROSS_RECORDS)]
    return [key + b":" + value for key, value, _ in wanted], [[key.decode(), value.decode(), ["codec", codec]] for key, value, _ in wanted]


def check_cross(context, client, codec):
    got = read(context, cross_topic(context.prefix, client, codec), CROSS_RECORDS)
    equal([[each["key"], each["payload"], each["headers"]] for each in got], cross_lines(client, codec)[1], f"records of {client}")


def compression(codec):
    @suite.behaviour(f"compression.{codec}")
    def _(context):
        topic = make_topic(context, codec, full=cross_topic(context.prefix, context.client, codec))
        send(context, topic, cross_lines(context.client, codec)[0], "-K:", "-z", codec, "-H", f"codec={codec}", **{"linger.ms": 50})
        check_cross(context, context.client, codec)


def cross(codec):
    @suite.behaviour(f"cross.{codec}")
    def _(context):
        for client in context.cross[codec]:
            check_cross(context, client, codec)


for each in CODECS:
    compression(each)
    cross(each)


@suite.behaviour("headers")
def headers(context):
    topic = make_topic(context, "headers")
    send(context, topic, [b"v"], "-H", "a=1", "-H", "b=", "-H", "a=2", "-H", "c", "-H", "a=3")
    equal(read(context, topic, 1)[0]["headers"], ["a", "1", "b", "", "a", "2", "c", None, "a", "3"], "headers")


@suite.behaviour("nulls")
def nulls(context):
    topic = make_topic(context, "nulls")
    send(context, topic, [b"k:", b":v", b":"], "-K:", "-Z")
    send(context, topic, [b"k:", b":v"], "-K:")
    got = [(each["key"], each["payload"]) for each in read(context, topic, 5)]
    equal(got, [("k", None), (None, "v"), (None, None), ("k", ""), ("", "v")], "records")


@suite.behaviour("large")
def large(context):
    topic = make_topic(context, "large", config={"max.message.bytes": 8 << 20})
    with tempfile.NamedTemporaryFile() as file:
        wanted = os.urandom(5_000_000)
        file.write(wanted)
        file.flush()
        kcat(context, "-P", "-t", topic, *options({"message.max.bytes": 8 << 20}), file.name)
    check(kcat(context, "-C", "-t", topic, "-o", "beginning", "-e", "-f", "%s") == wanted, "the value is not the same")


@suite.behaviour("too-large")
def too_large(context):
    topic = make_topic(context, "too-large", config={"max.message.bytes": 10_000})
    kcat(context, "-P", "-t", topic, stdin=b"x" * 20_000 + b"\n", fails="Message size too large")
    send(context, topic, [b"small"])
    equal(values(read(context, topic, 1)), ["small"], "the small record")


@suite.behaviour("acks")
def acks(context):
    topic = make_topic(context, "acks")
    for number, setting in enumerate(("0", "1", "all"), 1):
        send(context, topic, [f"{setting} {place}".encode() for place in range(10)], acks=setting)
        until(lambda: len(kcat(context, "-C", "-t", topic, "-o", "beginning", "-e").splitlines()) == 10 * number, "ten more records")
    equal(values(read(context, topic, 30)), [f"{setting} {place}" for setting in ("0", "1", "all") for place in range(10)], "records")


@suite.behaviour("partitions")
def partitions(context):
    topic = make_topic(context, "partitions", 6)
    send(context, topic, [b"key-%d:%d" % (number % 20, number) for number in range(300)], "-K:")
    got = read(context, topic, 300, partition=None)
    equal(sorted(int(each["payload"]) for each in got), list(range(300)), "records")
    homes = {}
    for each in got:
        homes.setdefault(each["key"], []).append((each["partition"], int(each["payload"])))
    for key, places in homes.items():
        equal(len({partition for partition, _ in places}), 1, f"partitions of {key}")
        check([number for _, number in places] == sorted(number for _, number in places), f"{key} is out of order")
    check(len({places[0][0] for places in homes.values()}) > 1, "all keys are in one partition")
    topic = make_topic(context, "by-partition", 6)
    send(context, topic, [b"here"], "-p", "4")
    equal(values(read(context, topic, 1, partition=4)), ["here"], "the record sent to partition 4")


@suite.behaviour("timestamps")
def timestamps(context):
    # kcat stamps records with the time of sending.
    before = int(time.time() * 1000)
    for kind, config in (("create", {}), ("logappend", {"message.timestamp.type": "LogAppendTime"})):
        topic = make_topic(context, kind, config=config)
        send(context, topic, [b"v"])
        got = read(context, topic, 1)[0]
        equal(got["tstype"], kind, "timestamp type")
        check(before - 5000 <= got["ts"] <= before + 60_000, f"stamped {got['ts']}, sent at {before}")


@suite.behaviour("idempotent")
def idempotent(context):
    topic = make_topic(context, "idempotent")
    door = context.proxy.open("cut")
    settings = {"enable.idempotence": "true", "batch.num.messages": 50, "linger.ms": 2, "retry.backoff.ms": 50,
                "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}
    # -E: a cut connection is no reason to give up.
    kcat(context, "-P", "-E", "-t", topic, *options(settings), bootstrap=door, stdin=b"".join(b"%d\n" % number for number in range(2000)))
    check(context.proxy.cuts(door) >= 6, f"only {context.proxy.cuts(door)} connections were cut")
    got = kcat(context, "-C", "-t", topic, "-o", "beginning", "-e").split()
    equal([int(each) for each in got], list(range(2000)), "records")


@suite.behaviour("consume.offset")
def consume_offset(context):
    topic = make_topic(context, "offset")
    send(context, topic, [b"%d" % number for number in range(100)])
    equal(values(read(context, topic, 1, offset=40)), ["40"], "the record at offset 40")
    equal([each["offset"] for each in read(context, topic, 10, offset=-10)], list(range(90, 100)), "offsets of the last ten")
    equal(kcat(context, "-C", "-t", topic, "-p", "0", "-o", "end", "-e"), b"", "from the end")
    equal(len(kcat(context, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e").split()), 100, "records in all")


@suite.behaviour("consume.timestamp")
def consume_timestamp(context):
    topic = make_topic(context, "timestamp")
    send(context, topic, [b"before"])
    time.sleep(0.05)
    middle = int(time.time() * 1000)
    time.sleep(0.05)
    send(context, topic, [b"after"])
    equal(values(read(context, topic, 1, offset=f"s@{middle}")), ["after"], "the first record from a timestamp on")
    equal(kcat(context, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-o", f"e@{middle}").split(), [b"before"], "records before a timestamp")
    check(b"offset 1" in kcat(context, "-Q", "-t", f"{topic}:0:{middle}"), "the offset of a timestamp")


@suite.behaviour("consume.reset")
def consume_reset(context):
    topic = make_topic(context, "reset")
    send(context, topic, [b"%d" % number for number in range(10)])
    equal(values(read(context, topic, 1, offset=500, **{"auto.offset.reset": "earliest"})), ["0"], "reset to the beginning")
    kcat(context, "-C", "-t", topic, "-p", "0", "-o", "500", "-c", "1", *options({"auto.offset.reset": "error"}), fails="out of range")


@suite.behaviour("consume.follow")
def consume_follow(context):
    topic = make_topic(context, "follow")
    reader = subprocess.Popen([KCAT, "-q", "-u", "-b", context.bootstrap, "-C", "-t", topic, "-o", "beginning"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for number in range(5):
            send(context, topic, [b"%d" % number])
            equal(reader.stdout.readline(), b"%d\n" % number, "what was just written")
    finally:
        reader.kill()
        reader.wait()


@suite.behaviour("consume.committed")
def consume_committed(context):
    topic = make_topic(context, "committed")
    send(context, topic, [b"%d" % number for number in range(50)])
    for level in ("read_committed", "read_uncommitted"):
        got = read(context, topic, 50, **{"isolation.level": level})
        equal([int(each["payload"]) for each in got], list(range(50)), level)


@suite.behaviour("consume.small-fetch")
def consume_small_fetch(context):
    topic = make_topic(context, "small-fetch")
    wanted = [bytes([ord("a") + number]) * 200_000 for number in range(6)]
    send(context, topic, wanted)
    got = kcat(context, "-C", "-t", topic, "-o", "beginning", "-e",
               *options({"fetch.max.bytes": 1000, "max.partition.fetch.bytes": 1000, "message.max.bytes": 1000})).split()
    check(got == wanted, "the values are not the same")


class Member:
    """A kcat in a group. What it was assigned it says on its standard error."""

    ASSIGNED = re.compile(r"(?:: assigned|incremental assignment .*\)): (.*)$")
    REVOKED = re.compile(r"(?:: revoked|incremental revoke .*\)): (.*)$")
    PART = re.compile(r"(\S+) \[(\d+)\]")

    def __init__(self, context, topic, group, bootstrap=None, **settings):
        settings = {"auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **settings}
        self.incremental = "cooperative" in settings.get("partition.assignment.strategy", "")
        self.seen, self.owned, self.assigned, self.revoked = [], set(), [], []
        self.process = subprocess.Popen(
            [KCAT, "-u", "-b", bootstrap or context.bootstrap, "-G", context.name(group), topic, *options(settings)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        threading.Thread(target=self._values, daemon=True).start()
        threading.Thread(target=self._words, daemon=True).start()

    def _values(self):
        for line in self.process.stdout:
            self.seen.append(line.rstrip(b"\n"))

    def _words(self):
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            print(text, file=sys.stderr)
            for pattern, rounds, change in ((self.ASSIGNED, self.assigned, True), (self.REVOKED, self.revoked, False)):
                found = pattern.search(text)
                if found:
                    parts = {(topic, int(number)) for topic, number in self.PART.findall(found[1])}
                    rounds.append(sorted(number for _, number in parts))
                    if change:
                        self.owned = self.owned | parts if self.incremental else parts
                    else:
                        self.owned = self.owned - parts

    def owns(self):
        return self.owned

    def leave(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(TIMEOUT)

    def abandon(self):
        self.process.kill()
        self.process.wait()


def sender(context, topic):
    def go(records):
        for partition in sorted({partition for _, partition in records}):
            send(context, topic, [value for value, each in records if each == partition], "-p", str(partition))

    return go


@suite.scenario("group.join", "group.leave", "group.crash")
def group_three(context):
    topic = make_topic(context, "three", 6)
    settings = {"partition.assignment.strategy": "range"}
    return three_members(context, "group", lambda door: Member(context, topic, "three", door, **settings), sender(context, topic))


@suite.behaviour("group.cooperative")
def cooperative(context):
    topic = make_topic(context, "cooperative", 6)
    settings = {"partition.assignment.strategy": "cooperative-sticky"}
    first = Member(context, topic, "cooperative", **settings)
    share_out([first], [6], "alone")
    second = Member(context, topic, "cooperative", **settings)
    share_out([first, second], [3, 3], "two")
    equal([len(each) for each in first.revoked], [3], "partitions taken from the first, at each rebalance")
    each_once(sender(context, topic), [first, second], "cooperative")
    second.leave()
    share_out([first], [6], "alone again")
    first.leave()


@suite.behaviour("group.static")
def static(context):
    topic = make_topic(context, "static", 6)
    settings = {"session.timeout.ms": 20000, "partition.assignment.strategy": "range"}
    first = Member(context, topic, "static", **settings, **{"group.instance.id": "one"})
    second = Member(context, topic, "static", **settings, **{"group.instance.id": "two"})
    share_out([first, second], [3, 3], "two")
    held, rounds = second.owns(), len(first.assigned)
    # Killed, it comes back within its session's time, and the other notices nothing.
    second.abandon()
    second = Member(context, topic, "static", **settings, **{"group.instance.id": "two"})
    share_out([first, second], [3, 3], "two again")
    equal((second.owns(), len(first.assigned)), (held, rounds), "what the second has, and the assignments of the first")
    for each in (first, second):
        each.leave()


@suite.behaviour("commit.resume")
def commit_resume(context):
    topic = make_topic(context, "resume")
    send(context, topic, [b"%d" % number for number in range(100)])
    group = ["-G", context.name("resume"), "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"]
    equal(kcat(context, *group, "-c", "40", topic).split(), [b"%d" % number for number in range(40)], "the first records")
    equal(kcat(context, *group, "-c", "60", topic).split(), [b"%d" % number for number in range(40, 100)], "records after resuming")


@suite.behaviour("commit.auto")
def commit_auto(context):
    topic = make_topic(context, "auto")
    send(context, topic, [b"%d" % number for number in range(20)])
    member = Member(context, topic, "auto")
    until(lambda: len(member.seen) == 20, "twenty records")
    # kcat leaves the interval at five seconds whatever it is told. Killed after that, it commits nothing more.
    time.sleep(6)
    member.abandon()
    send(context, topic, [b"next"])
    member = Member(context, topic, "auto")
    until(lambda: member.seen, "a record after resuming")
    equal(member.seen[0], b"next", "the first record after resuming")
    member.leave()


@suite.behaviour("admin.cluster")
def admin_cluster(context):
    topic = make_topic(context, "cluster", 3)
    found = json.loads(kcat(context, "-L", "-J"))
    equal(found["brokers"][0]["name"], context.bootstrap, "the node's address")
    equal(len(next(each for each in found["topics"] if each["topic"] == topic)["partitions"]), 3, "partitions of a topic")


@suite.behaviour("admin.list-offsets")
def admin_list_offsets(context):
    topic = make_topic(context, "list-offsets")
    send(context, topic, [b"a", b"b", b"c"])
    check(b"offset 0" in kcat(context, "-Q", "-t", f"{topic}:0:-2"), "earliest")
    check(b"offset 3" in kcat(context, "-Q", "-t", f"{topic}:0:-1"), "latest")


suite.main()
