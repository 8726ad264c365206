"""confluent-kafka (librdkafka): what it is asked to show is in ../behaviours.json."""

import functools
import os
import pathlib
import queue
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from confluent_kafka import (  # noqa: E402
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # noqa: E402
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness.driver import CODECS, CROSS_RECORDS, Suite, check, cross_record, cross_topic, equal, until  # noqa: E402
from harness.groups import each_once, share_out, three_members  # noqa: E402

suite = Suite()
TIMEOUT = 15
NEXT = {"group.protocol": "consumer"}


@functools.cache
def admin(context):
    """One for all behaviours: what it was asked ends with it."""
    return AdminClient({"bootstrap.servers": context.bootstrap})


def wait(futures):
    """The results of what an admin call returns: a future, or one for each thing."""
    if hasattr(futures, "result"):
        return futures.result(TIMEOUT)
    return {key: future.result(TIMEOUT) for key, future in futures.items()}


def fails(futures, code, what):
    """The call must fail with this code."""
    try:
        wait(futures)
    except KafkaException as error:
        got = error.args[0]
        check(got.code() == code, f"{what}: got {got.name()}, wanted {KafkaError(code).name()}")
        return
    raise AssertionError(f"{what} was not refused")


def make_topic(context, what, partitions=1, config=None, full=None):
    name = full or context.name(what)
    wait(admin(context).create_topics([NewTopic(name, partitions, 1, config=config or {})]))
    return name


class Sent:
    """What a producer was told of each record."""

    def __init__(self):
        self.errors, self.offsets = [], []

    def __call__(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.offsets.append(message.offset())


def send(context, topic, records, **settings):
    """Sends (key, value[, more]) and returns the offsets; a refusal fails the behaviour."""
    producer = Producer({"bootstrap.servers": context.bootstrap, **settings})
    sent = Sent()
    for key, value, *more in records:
        producer.produce(topic, key=key, value=value, on_delivery=sent, **(more[0] if more else {}))
    producer.flush(TIMEOUT)
    check(not sent.errors, f"producing: {sent.errors[:1]}")
    equal(len(sent.offsets), len(records), "acknowledged records")
    return sent.offsets


def consumer(context, group="reader", **settings):
    settings = {
        "bootstrap.servers": context.bootstrap,
        "group.id": context.name(group),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **settings,
    }
    # Under the broker-driven protocol these are the broker's to say, and librdkafka refuses them.
    if "group.protocol" not in settings:
        settings = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **settings}
    return Consumer(settings)


def take(reader, count, seconds=TIMEOUT):
    """Polls until so many records are there."""
    got = []
    end = time.monotonic() + seconds
    while len(got) < count:
        check(time.monotonic() < end, f"{len(got)} of {count} records within {seconds} s")
        message = reader.poll(0.2)
        if message is None:
            continue
        check(message.error() is None, f"consuming: {message.error()}")
        got.append(message)
    return got


def read(context, topic, count, partition=0, offset=OFFSET_BEGINNING, **settings):
    """Reads so many records of one partition, outside of any group."""
    reader = consumer(context, **settings)
    reader.assign([TopicPartition(topic, partition, offset)])
    try:
        return take(reader, count)
    finally:
        reader.close()


def pairs(messages):
    return [(each.key(), each.value()) for each in messages]


def compression(codec):
    @suite.behaviour(f"compression.{codec}")
    def _(context):
        topic = make_topic(context, codec, full=cross_topic(context.prefix, context.client, codec))
        records = [cross_record(context.client, codec, number) for number in range(CROSS_RECORDS)]
        send(context, topic, [(key, value, {"headers": [("codec", header)]}) for key, value, header in records],
             **{"compression.type": codec, "linger.ms": 50})
        got = read(context, topic, CROSS_RECORDS)
        equal([(each.key(), each.value(), each.headers()) for each in got],
              [(key, value, [("codec", header)]) for key, value, header in records], "records")


def cross(codec):
    @suite.behaviour(f"cross.{codec}")
    def _(context):
        for client in context.cross[codec]:
            got = read(context, cross_topic(context.prefix, client, codec), CROSS_RECORDS)
            wanted = [cross_record(client, codec, number) for number in range(CROSS_RECORDS)]
            equal([(each.key(), each.value(), each.headers()) for each in got],
                  [(key, value, [("codec", header)]) for key, value, header in wanted], f"records of {client}")


for each in CODECS:
    compression(each)
    cross(each)


@suite.behaviour("headers")
def headers(context):
    topic = make_topic(context, "headers")
    wanted = [("a", b"1"), ("b", b""), ("a", b"2"), ("c", None), ("a", bytes(range(256))), ("", b"no key")]
    send(context, topic, [(b"k", b"v", {"headers": wanted}), (b"k", b"bare")])
    got = read(context, topic, 2)
    equal(got[0].headers(), wanted, "headers")
    equal(got[1].headers(), None, "headers of a record without")


@suite.behaviour("nulls")
def nulls(context):
    topic = make_topic(context, "nulls")
    wanted = [(None, b"v"), (b"k", None), (None, None), (b"", b""), (b"", None), (None, b"")]
    send(context, topic, wanted)
    equal(pairs(read(context, topic, len(wanted))), wanted, "records")


@suite.behaviour("large")
def large(context):
    topic = make_topic(context, "large", config={"max.message.bytes": str(8 << 20)})
    values = [os.urandom(5_000_000) for _ in range(3)]
    send(context, topic, [(b"%d" % place, value) for place, value in enumerate(values)], **{"message.max.bytes": 8 << 20})
    got = read(context, topic, 3)
    check([each.value() for each in got] == values, "the values are not the same")


@suite.behaviour("too-large")
def too_large(context):
    topic = make_topic(context, "too-large", config={"max.message.bytes": "10000"})
    producer = Producer({"bootstrap.servers": context.bootstrap})
    sent = Sent()
    producer.produce(topic, os.urandom(20_000), on_delivery=sent)
    producer.flush(TIMEOUT)
    equal([each.code() for each in sent.errors], [KafkaError.MSG_SIZE_TOO_LARGE], "errors")
    producer.produce(topic, b"small", on_delivery=sent)
    producer.flush(TIMEOUT)
    equal(sent.offsets, [0], "offset of the small record")


@suite.behaviour("acks")
def acks(context):
    topic = make_topic(context, "acks")
    for setting in ("0", "1", "all"):
        send(context, topic, [(None, f"{setting} {number}".encode()) for number in range(10)], acks=setting)
        # With acks=0 the client knows nothing; what comes next must come after.
        read(context, topic, 10 if setting == "0" else 20 if setting == "1" else 30)
    got = read(context, topic, 30)
    equal([each.value() for each in got],
          [f"{setting} {number}".encode() for setting in ("0", "1", "all") for number in range(10)], "records")


@suite.behaviour("partitions")
def partitions(context):
    topic = make_topic(context, "partitions", 6)
    send(context, topic, [(b"key-%d" % (number % 20), b"%d" % number) for number in range(300)])
    reader = consumer(context)
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(6)])
    got = take(reader, 300)
    equal(sorted(int(each.value()) for each in got), list(range(300)), "records")
    homes = {}
    for each in got:
        homes.setdefault(each.key(), []).append((each.partition(), int(each.value())))
    for key, places in homes.items():
        equal(len({partition for partition, _ in places}), 1, f"partitions of {key}")
        check([number for _, number in places] == sorted(number for _, number in places), f"{key} is out of order")
    check(len({places[0][0] for places in homes.values()}) > 1, "all keys are in one partition")
    offsets = send(context, topic, [(None, b"here", {"partition": 4})])
    reader.assign([TopicPartition(topic, 4, offsets[0])])
    equal(take(reader, 1)[0].value(), b"here", "the record sent to partition 4")
    reader.close()


@suite.behaviour("timestamps")
def timestamps(context):
    topic = make_topic(context, "create-time")
    stamp = int(time.time() * 1000) - 3_600_000
    send(context, topic, [(None, b"%d" % number, {"timestamp": stamp + number}) for number in range(5)])
    equal([each.timestamp() for each in read(context, topic, 5)], [(1, stamp + number) for number in range(5)], "timestamps")
    topic = make_topic(context, "append-time", config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    send(context, topic, [(None, b"v", {"timestamp": stamp})])
    kind, when = read(context, topic, 1)[0].timestamp()
    equal(kind, 2, "timestamp type")
    check(before - 5000 <= when <= before + 60_000, f"appended at {when}, sent at {before}")


@suite.behaviour("idempotent")
def idempotent(context):
    topic = make_topic(context, "idempotent")
    door = context.proxy.open("cut")
    producer = Producer({
        "bootstrap.servers": door,
        "enable.idempotence": True,
        "batch.num.messages": 50,
        "linger.ms": 2,
        "retry.backoff.ms": 50,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
    })
    sent = Sent()
    for number in range(2000):
        producer.produce(topic, b"%d" % number, on_delivery=sent)
        if number % 50 == 0:
            producer.poll(0.01)
    producer.flush(40)
    check(not sent.errors, f"producing: {sent.errors[:1]}")
    check(context.proxy.cuts(door) >= 6, f"only {context.proxy.cuts(door)} connections were cut")
    got = read(context, topic, 2000)
    equal([int(each.value()) for each in got], list(range(2000)), "records")
    reader = consumer(context)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=TIMEOUT), (0, 2000), "watermarks")
    reader.close()


@suite.behaviour("consume.offset")
def consume_offset(context):
    topic = make_topic(context, "offset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    reader = consumer(context)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=TIMEOUT), (0, 100), "watermarks")
    reader.assign([TopicPartition(topic, 0, 40)])
    equal(take(reader, 1)[0].value(), b"40", "the record at offset 40")
    reader.seek(TopicPartition(topic, 0, 90))
    equal([each.offset() for each in take(reader, 10)], list(range(90, 100)), "offsets after a seek")
    reader.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
    equal(take(reader, 1)[0].offset(), 0, "the beginning")
    reader.assign([TopicPartition(topic, 0, OFFSET_END)])
    check(reader.poll(1.0) is None, "a record came from the end")
    send(context, topic, [(None, b"last")])
    equal(take(reader, 1)[0].offset(), 100, "what came at the end")
    reader.close()


@suite.behaviour("consume.timestamp")
def consume_timestamp(context):
    topic = make_topic(context, "timestamp")
    start = int(time.time() * 1000) - 1_000_000
    for number in range(10):
        send(context, topic, [(None, b"%d" % number, {"timestamp": start + number * 1000})])
    reader = consumer(context)

    def at(when):
        return reader.offsets_for_times([TopicPartition(topic, 0, when)], timeout=TIMEOUT)[0].offset

    equal(at(start + 4000), 4, "offset of a timestamp")
    equal(at(start + 4001), 5, "offset after a timestamp")
    equal(at(start - 1), 0, "offset before all")
    equal(at(start + 100_000), OFFSET_END, "offset after all")
    reader.assign([TopicPartition(topic, 0, at(start + 6500))])
    equal([each.value() for each in take(reader, 3)], [b"7", b"8", b"9"], "records from a timestamp")
    reader.close()


@suite.behaviour("consume.reset")
def consume_reset(context):
    topic = make_topic(context, "reset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    wait(admin(context).delete_records([TopicPartition(topic, 0, 30)]))
    equal(read(context, topic, 1, offset=5)[0].offset(), 30, "reset to the beginning")
    equal(read(context, topic, 1, offset=500)[0].offset(), 30, "reset from beyond the end")
    reader = consumer(context, **{"auto.offset.reset": "error"})
    reader.assign([TopicPartition(topic, 0, 5)])
    message = until(lambda: reader.poll(0.2), "no word of the bad position")
    check(message.error() and message.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE),
          f"with the policy `error` came {message.error()}")
    reader.close()


@suite.behaviour("consume.follow")
def consume_follow(context):
    topic = make_topic(context, "follow")
    reader = consumer(context, **{"fetch.wait.max.ms": 5000, "fetch.min.bytes": 1})
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    check(reader.poll(1.0) is None, "a record came from an empty topic")
    for number in range(5):
        send(context, topic, [(None, b"%d" % number)])
        equal(take(reader, 1)[0].value(), b"%d" % number, "what was just written")
    reader.close()


@suite.behaviour("consume.committed")
def consume_committed(context):
    topic = make_topic(context, "committed")
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    for level in ("read_committed", "read_uncommitted"):
        got = read(context, topic, 50, **{"isolation.level": level})
        equal([int(each.value()) for each in got], list(range(50)), level)


@suite.behaviour("consume.small-fetch")
def consume_small_fetch(context):
    topic = make_topic(context, "small-fetch", 2)
    values = [os.urandom(200_000) for _ in range(6)]
    send(context, topic, [(None, value, {"partition": place % 2}) for place, value in enumerate(values)])
    reader = consumer(context, **{"fetch.max.bytes": 1000, "max.partition.fetch.bytes": 1000, "message.max.bytes": 1000})
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(2)])
    got = take(reader, 6)
    equal(sorted(each.value() for each in got) == sorted(values), True, "all values there")
    reader.close()


class Member(threading.Thread):
    """A member of a group that polls in a thread of its own."""

    def __init__(self, context, topics, group, bootstrap=None, **settings):
        super().__init__(daemon=True)
        if bootstrap:
            settings["bootstrap.servers"] = bootstrap
        self.consumer = consumer(context, group, **settings)
        self.owned, self.calls = set(), queue.SimpleQueue()
        self.seen, self.assigned, self.revoked, self.lost, self.errors = [], [], [], [], []
        self.leaving = threading.Event()
        self.consumer.subscribe(topics, on_assign=lambda _, parts: self.assigned.append(numbers(parts)),
                                on_revoke=lambda _, parts: self.revoked.append(numbers(parts)),
                                on_lost=lambda _, parts: self.lost.append(numbers(parts)))
        self.start()

    def run(self):
        while not self.leaving.is_set():
            message = self.consumer.poll(0.1)
            self.owned = {(each.topic, each.partition) for each in self.consumer.assignment()}
            while not self.calls.empty():
                self.calls.get()(self.consumer)
            if message is None:
                continue
            if message.error():
                self.errors.append(message.error())
            else:
                self.seen.append(message.value())
        self.consumer.close()

    def call(self, function):
        """Has the member's own thread call a function with its consumer, and waits for it."""
        done = queue.SimpleQueue()

        def go(reader):
            try:
                done.put((function(reader), None))
            except KafkaException as error:
                done.put((None, error))

        self.calls.put(go)
        value, error = done.get(timeout=TIMEOUT)
        if error:
            raise error
        return value

    def owns(self):
        return self.owned

    def leave(self):
        self.leaving.set()
        self.join(TIMEOUT)
        check(not self.is_alive(), "a member did not close")

    def abandon(self):
        self.leaving.set()


def numbers(parts):
    return sorted(each.partition for each in parts)


def sender(context, topic):
    return lambda records: send(context, topic, [(None, value, {"partition": partition}) for value, partition in records])


def three(kind, settings):
    @suite.scenario(f"{kind}.join", f"{kind}.leave", f"{kind}.crash")
    def _(context):
        group = f"{kind}-three"
        topic = make_topic(context, group, 6)
        return three_members(context, kind, lambda door: Member(context, [topic], group, door, **settings), sender(context, topic))


three("group", {"partition.assignment.strategy": "range"})
three("next", NEXT)


@suite.behaviour("group.cooperative")
def cooperative(context):
    topic = make_topic(context, "cooperative", 6)
    settings = {"partition.assignment.strategy": "cooperative-sticky"}
    first = Member(context, [topic], "cooperative", **settings)
    share_out([first], [6], "alone")
    second = Member(context, [topic], "cooperative", **settings)
    share_out([first, second], [3, 3], "two")
    equal([len(each) for each in first.revoked], [3], "partitions taken from the first, at each rebalance")
    each_once(sender(context, topic), [first, second], "cooperative")
    second.leave()
    share_out([first], [6], "alone again")
    first.leave()


@suite.behaviour("group.static")
def group_static(context):
    static(context, "static", {})


@suite.behaviour("next.static")
def next_static(context):
    static(context, "next-static", NEXT)


def static(context, group, settings):
    topic = make_topic(context, group, 6)
    # Time enough for the member to come back.
    if "group.protocol" not in settings:
        settings = {**settings, "session.timeout.ms": 20000}
    first = Member(context, [topic], group, **settings, **{"group.instance.id": "one"})
    second = Member(context, [topic], group, **settings, **{"group.instance.id": "two"})
    share_out([first, second], [3, 3], "two")
    held, rounds = second.owns(), len(first.assigned)
    second.leave()
    second = Member(context, [topic], group, **settings, **{"group.instance.id": "two"})
    share_out([first, second], [3, 3], "two again")
    equal(second.owns(), held, "what the second has after coming back")
    equal(len(first.assigned), rounds, "assignments of the first")
    if "group.protocol" not in settings:
        usurper = Member(context, [topic], group, **settings, **{"group.instance.id": "two"})
        until(lambda: any(each.code() == KafkaError._FATAL or each.code() == KafkaError.FENCED_INSTANCE_ID for each in second.errors),
              lambda: f"a second member with the same instance id did not fence the first: {second.errors}")
        usurper.leave()
    for each in (first, second):
        each.leave()


@suite.behaviour("next.assignors")
def next_assignors(context):
    for assignor in ("uniform", "range"):
        topic = make_topic(context, f"next-{assignor}", 6)
        first = Member(context, [topic], f"next-{assignor}", **NEXT, **{"group.remote.assignor": assignor})
        second = Member(context, [topic], f"next-{assignor}", **NEXT, **{"group.remote.assignor": assignor})
        share_out([first, second], [3, 3], assignor)
        if assignor == "range":
            equal(sorted(sorted(number for _, number in each.owns()) for each in (first, second)), [[0, 1, 2], [3, 4, 5]], "ranges")
        for each in (first, second):
            each.leave()
    odd = Member(context, [topic], "next-odd", **NEXT, **{"group.remote.assignor": "no-such"})
    until(lambda: odd.errors, "an unknown assignor was not refused")
    check("assignor" in odd.errors[0].str().lower(), f"an unknown assignor: {odd.errors[0]}")
    odd.leave()


@suite.behaviour("next.regex")
def next_regex(context):
    stem = context.name("next-regex")
    one = make_topic(context, "", full=f"{stem}-a1")
    member = Member(context, [f"^{stem}-a[0-9]$"], "next-regex", **NEXT, **{"topic.metadata.refresh.interval.ms": 1000})
    until(lambda: member.owns() == {(one, 0)}, lambda: f"the first topic: {member.owns()}")
    two = make_topic(context, "", full=f"{stem}-a2")
    make_topic(context, "", full=f"{stem}-b3")
    until(lambda: member.owns() == {(one, 0), (two, 0)}, lambda: f"a topic that came: {member.owns()}", 25)
    member.leave()


@suite.behaviour("next.migrate")
def next_migrate(context):
    topic = make_topic(context, "migrate", 6)
    classic = Member(context, [topic], "migrate", **{"partition.assignment.strategy": "range"})
    share_out([classic], [6], "classic alone")
    each_once(sender(context, topic), [classic], "classic")
    modern = Member(context, [topic], "migrate", **NEXT)
    share_out([classic, modern], [3, 3], "one of each", seconds=25)
    each_once(sender(context, topic), [classic, modern], "mixed")
    described = wait(admin(context).describe_consumer_groups([context.name("migrate")]))[context.name("migrate")]
    equal(described.type.name, "CONSUMER", "the group's type with one of each")
    classic.leave()
    share_out([modern], [6], "modern alone")
    each_once(sender(context, topic), [modern], "modern")
    back = Member(context, [topic], "migrate", **{"partition.assignment.strategy": "range"})
    share_out([modern, back], [3, 3], "one of each, on the way back", seconds=25)
    modern.leave()
    share_out([back], [6], "back to classic")
    each_once(sender(context, topic), [back], "back")
    back.leave()


@suite.behaviour("commit.resume")
def commit_resume(context):
    topic = make_topic(context, "resume")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    first = consumer(context, "resume")
    first.subscribe([topic])
    take(first, 40)
    committed = first.commit(offsets=[TopicPartition(topic, 0, 37, metadata="half way")], asynchronous=False)
    check(committed[0].error is None, f"commit: {committed[0].error}")
    first.close()
    second = consumer(context, "resume")
    found = second.committed([TopicPartition(topic, 0)], timeout=TIMEOUT)[0]
    equal((found.offset, found.metadata), (37, "half way"), "the committed offset")
    second.subscribe([topic])
    got = take(second, 63)
    equal([each.offset() for each in got], list(range(37, 100)), "offsets after resuming")
    second.commit(message=got[-1], asynchronous=True)
    until(lambda: second.poll(0) is None and second.committed([TopicPartition(topic, 0)], timeout=TIMEOUT)[0].offset == 100,
          "the asynchronous commit did not arrive")
    equal(second.committed([TopicPartition(topic, 7)], timeout=TIMEOUT)[0].offset, OFFSET_INVALID, "what was never committed")
    second.close()


@suite.behaviour("commit.auto")
def commit_auto(context):
    topic = make_topic(context, "auto")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    reader = consumer(context, "auto", **{"enable.auto.commit": True, "auto.commit.interval.ms": 200})
    reader.subscribe([topic])
    take(reader, 60)
    other = consumer(context, "auto")

    def committed():
        reader.poll(0)
        return other.committed([TopicPartition(topic, 0)], timeout=TIMEOUT)[0].offset

    until(lambda: committed() >= 60, "nothing was committed on the way")
    reader.close()
    check(committed_of(other, topic) >= 60, "the close lost the commit")
    other.close()


def committed_of(reader, topic):
    return reader.committed([TopicPartition(topic, 0)], timeout=TIMEOUT)[0].offset


@suite.behaviour("commit.fenced")
def commit_fenced(context):
    topic = make_topic(context, "fenced", 2)
    door = context.proxy.open()
    first = Member(context, [topic], "fenced", **{"group.instance.id": "f"})
    share_out([first], [2], "alone", total=2)
    # Outside of the group: while it has members, a commit without a member's id is refused.
    stranger = consumer(context, "fenced", **{"bootstrap.servers": door})
    try:
        stranger.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        raise AssertionError("a commit from outside of a group with members was accepted")
    except KafkaException as error:
        code = error.args[0].code()
        check(code in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION), f"a commit from outside: {error.args[0].name()}")
    stranger.close()
    first.leave()


@suite.behaviour("lag")
def lag(context):
    topic = make_topic(context, "lag", 2)
    send(context, topic, [(None, b"%d" % number, {"partition": number % 2}) for number in range(100)])
    reader = consumer(context, "lag")
    reader.subscribe([topic])
    take(reader, 1)
    reader.commit(offsets=[TopicPartition(topic, 0, 20), TopicPartition(topic, 1, 50)], asynchronous=False)
    reader.close()
    group = context.name("lag")
    offsets = wait(admin(context).list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group].topic_partitions
    committed = {each.partition: each.offset for each in offsets}
    ends = wait(admin(context).list_offsets({TopicPartition(topic, number): OffsetSpec.latest() for number in range(2)}))
    lags = {part.partition: end.offset - committed[part.partition] for part, end in ends.items()}
    equal(lags, {0: 30, 1: 0}, "lag")


@suite.behaviour("admin.topics")
def admin_topics(context):
    client, name = admin(context), context.name("topics")
    wait(client.create_topics([NewTopic(name, 3, 1, config={"retention.ms": "3600000"})]))
    fails(client.create_topics([NewTopic(name, 3, 1)]), KafkaError.TOPIC_ALREADY_EXISTS, "creating it again")
    fails(client.create_topics([NewTopic(f"{name}-x", 0, 1)]), KafkaError.INVALID_PARTITIONS, "no partitions")
    fails(client.create_topics([NewTopic("no/slash", 1, 1)]), KafkaError.TOPIC_EXCEPTION, "an illegal name")
    fails(client.create_topics([NewTopic(f"{name}-x", 1, 1, config={"no.such": "1"})]), KafkaError.INVALID_CONFIG, "an unknown setting")
    fails(client.create_topics([NewTopic(f"{name}-x", 1, 9)]), KafkaError.INVALID_REPLICATION_FACTOR, "nine replicas")
    wait(client.create_topics([NewTopic(f"{name}-dry", 1, 1)], validate_only=True))
    listed = client.list_topics(timeout=TIMEOUT)
    check(name in listed.topics and f"{name}-dry" not in listed.topics, "the list of topics is not right")
    equal(sorted(listed.topics[name].partitions), [0, 1, 2], "partitions")
    check(listed.cluster_id, "no cluster id")
    described = wait(client.describe_topics(TopicCollection([name])))[name]
    equal(len(described.partitions), 3, "partitions described")
    check(str(described.topic_id) and described.partitions[0].leader is not None, "no topic id or no leader")
    fails(client.describe_topics(TopicCollection([f"{name}-none"])), KafkaError.UNKNOWN_TOPIC_OR_PART, "describing an unknown topic")
    wait(client.delete_topics([name]))
    until(lambda: name not in client.list_topics(timeout=TIMEOUT).topics, "the topic is still listed")
    fails(client.delete_topics([name]), KafkaError.UNKNOWN_TOPIC_OR_PART, "deleting it again")


@suite.behaviour("admin.partitions")
def admin_partitions(context):
    client, name = admin(context), make_topic(context, "more", 2)
    wait(client.create_partitions([NewPartitions(name, 5)]))
    until(lambda: len(client.list_topics(name, timeout=TIMEOUT).topics[name].partitions) == 5, "five partitions")
    fails(client.create_partitions([NewPartitions(name, 3)]), KafkaError.INVALID_PARTITIONS, "fewer partitions")
    fails(client.create_partitions([NewPartitions(f"{name}-none", 3)]), KafkaError.UNKNOWN_TOPIC_OR_PART, "partitions of an unknown topic")
    send(context, name, [(None, b"new", {"partition": 4})])
    equal(read(context, name, 1, partition=4)[0].value(), b"new", "the record in a new partition")


@suite.behaviour("admin.delete-records")
def admin_delete_records(context):
    client, topic = admin(context), make_topic(context, "cut")
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    gone = wait(client.delete_records([TopicPartition(topic, 0, 20)]))
    equal([each.low_watermark for each in gone.values()], [20], "low watermark")
    fails(client.delete_records([TopicPartition(topic, 0, 500)]), KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end")
    equal(read(context, topic, 1)[0].offset(), 20, "the first record")
    gone = wait(client.delete_records([TopicPartition(topic, 0, OFFSET_END)]))
    equal([each.low_watermark for each in gone.values()], [50], "low watermark after deleting all")


@suite.behaviour("admin.configs")
def admin_configs(context):
    client, topic = admin(context), make_topic(context, "configs", config={"retention.ms": "3600000"})

    def entries():
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return wait(client.describe_configs([resource]))[resource]

    def change(name, value, how):
        wait(client.incremental_alter_configs([ConfigResource(
            ResourceType.TOPIC, topic, incremental_configs=[ConfigEntry(name, value, incremental_operation=how)])]))

    found = entries()
    equal((found["retention.ms"].value, found["retention.ms"].source), ("3600000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value), "retention.ms")
    check(found["max.message.bytes"].is_default, "max.message.bytes is not said to be a default")
    change("max.message.bytes", "123456", AlterConfigOpType.SET)
    until(lambda: entries()["max.message.bytes"].value == "123456", "max.message.bytes did not change")
    equal(entries()["retention.ms"].value, "3600000", "retention.ms after another change")
    change("retention.ms", None, AlterConfigOpType.DELETE)
    until(lambda: entries()["retention.ms"].is_default, "retention.ms was not reset")
    fails(client.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("max.message.bytes", "many", incremental_operation=AlterConfigOpType.SET)])]), KafkaError.INVALID_CONFIG, "an invalid value")
    node = next(iter(client.list_topics(timeout=TIMEOUT).brokers))
    resource = ConfigResource(ResourceType.BROKER, str(node))
    broker = wait(client.describe_configs([resource]))[resource]
    check("message.max.bytes" in broker, "the broker's settings lack message.max.bytes")
    fails(client.describe_configs([ConfigResource(ResourceType.TOPIC, f"{topic}-none")]), KafkaError.UNKNOWN_TOPIC_OR_PART, "an unknown topic")


@suite.behaviour("admin.configs.legacy")
def admin_configs_legacy(context):
    client, topic = admin(context), make_topic(context, "legacy", config={"retention.ms": "3600000"})
    wait(client.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config={"max.message.bytes": "222222"})]))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    until(lambda: wait(client.describe_configs([resource]))[resource]["max.message.bytes"].value == "222222", "no change")
    check(wait(client.describe_configs([resource]))[resource]["retention.ms"].is_default, "AlterConfigs kept a setting it was not given")


@suite.behaviour("admin.cluster")
def admin_cluster(context):
    found = wait(admin(context).describe_cluster())
    check(found.cluster_id and found.nodes and found.controller is not None, f"the cluster: {found.cluster_id}, {found.nodes}")
    equal(f"{found.nodes[0].host}:{found.nodes[0].port}", context.bootstrap, "the node's address")


@suite.behaviour("admin.groups")
def admin_groups(context):
    client, topic, group = admin(context), make_topic(context, "groups"), context.name("groups")
    member = Member(context, [topic], "groups")
    share_out([member], [1], "alone", total=1)
    listed = {each.group_id: each for each in wait(client.list_consumer_groups()).valid}
    check(group in listed, "the group is not listed")
    equal(listed[group].state.name, "STABLE", "state listed")
    described = wait(client.describe_consumer_groups([group]))[group]
    equal((described.state.name, described.type.name, len(described.members)), ("STABLE", "CLASSIC", 1), "the group described")
    equal([(each.topic, each.partition) for each in described.members[0].assignment.topic_partitions], [(topic, 0)], "assignment")
    fails(client.delete_consumer_groups([group]), KafkaError.NON_EMPTY_GROUP, "deleting a group with a member")
    member.call(lambda reader: reader.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False))
    member.leave()
    until(lambda: wait(client.describe_consumer_groups([group]))[group].state.name == "EMPTY", "the group is not empty")
    wait(client.delete_consumer_groups([group]))
    check(group not in {each.group_id for each in wait(client.list_consumer_groups()).valid}, "the group is still listed")
    fails(client.delete_consumer_groups([group]), KafkaError.GROUP_ID_NOT_FOUND, "deleting it again")


@suite.behaviour("admin.offsets")
def admin_offsets(context):
    client, topic, group = admin(context), make_topic(context, "offsets", 2), context.name("offsets")
    wait(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(
        group, [TopicPartition(topic, 0, 11), TopicPartition(topic, 1, 22)])]))

    def committed():
        found = wait(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
        return {each.partition: each.offset for each in found.topic_partitions}

    equal(committed(), {0: 11, 1: 22}, "offsets")
    wait(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 5)])]))
    equal(committed(), {0: 5, 1: 22}, "offsets after a change")


@suite.behaviour("admin.list-offsets")
def admin_list_offsets(context):
    client, topic = admin(context), make_topic(context, "list-offsets")
    start = int(time.time() * 1000) - 100_000
    send(context, topic, [(None, b"v", {"timestamp": start + after}) for after in (0, 5000, 9000, 3000)])
    wait(client.delete_records([TopicPartition(topic, 0, 1)]))
    part = TopicPartition(topic, 0)

    def at(spec, **more):
        return wait(client.list_offsets({part: spec}, **more))[part]

    equal(at(OffsetSpec.earliest()).offset, 1, "earliest")
    equal(at(OffsetSpec.latest()).offset, 4, "latest")
    equal(at(OffsetSpec.latest(), isolation_level=IsolationLevel.READ_COMMITTED).offset, 4, "latest committed")
    found = at(OffsetSpec.for_timestamp(start + 5001))
    equal((found.offset, found.timestamp), (2, start + 9000), "by timestamp")
    found = at(OffsetSpec.max_timestamp())
    equal((found.offset, found.timestamp), (2, start + 9000), "greatest timestamp")


suite.main()
