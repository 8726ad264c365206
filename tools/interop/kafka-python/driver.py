"""kafka-python: what it is asked to show is in ../behaviours.json."""

import functools
import os
import pathlib
import queue
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402
from kafka import errors as kafka_errors  # noqa: E402
from kafka.admin import ConfigResource, MemberToRemove, OffsetSpec  # noqa: E402
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor  # noqa: E402
from kafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: E402
from kafka.structs import OffsetAndMetadata  # noqa: E402

from harness.driver import CODECS, CROSS_RECORDS, Suite, check, cross_record, cross_topic, equal, until  # noqa: E402
from harness.groups import each_once, share_out, three_members  # noqa: E402

suite = Suite()
TIMEOUT = 15
WAIT_MS = TIMEOUT * 1000
# A poll whose time is over at the moment when the answer to SyncGroup comes loses the assignment, and this client then
# waits forever. So no poll in a group is shorter than a rebalance.
POLL_MS = 1500


@functools.cache
def admin(context):
    return KafkaAdminClient(bootstrap_servers=context.bootstrap)


def fails(error, what, call, *arguments, **more):
    """The call must fail with this error."""
    try:
        got = call(*arguments, **more)
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{what}: got {type(other).__name__}, wanted {error.__name__}") from other
    raise AssertionError(f"{what} was not refused: {got}")


def make_topic(context, what, partitions=1, config=None, full=None):
    name = full or context.name(what)
    spec = {"num_partitions": partitions, "replication_factor": 1, "configs": config or {}}
    admin(context).create_topics({name: spec}, wait_for_metadata=True)
    return name


def send(context, topic, records, **settings):
    """Sends (key, value[, more]) and returns the offsets; a refusal fails the behaviour."""
    producer = KafkaProducer(bootstrap_servers=context.bootstrap, **settings)
    futures = [producer.send(topic, key=key, value=value, **(more[0] if more else {})) for key, value, *more in records]
    producer.flush(TIMEOUT)
    offsets = [each.get(TIMEOUT).offset for each in futures]
    producer.close()
    return offsets


def consumer(context, group=None, **settings):
    # Heartbeats every half a second, so that a group moves on quickly; six seconds are the least a broker takes.
    return KafkaConsumer(**{
        "bootstrap_servers": context.bootstrap,
        "group_id": context.name(group) if group else None,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 500,
        # A topic that the first metadata lacks is looked for again soon.
        "metadata_max_age_ms": 1000,
        **settings,
    })


def take(reader, count, seconds=TIMEOUT):
    """Polls until so many records are there."""
    got = []
    end = time.monotonic() + seconds
    while len(got) < count:
        check(time.monotonic() < end, f"{len(got)} of {count} records within {seconds} s")
        for records in reader.poll(POLL_MS, max_records=count - len(got)).values():
            got += records
    return got


def read(context, topic, count, partition=0, offset=None, **settings):
    """Reads so many records of one partition, outside of any group."""
    reader = consumer(context, **settings)
    part = TopicPartition(topic, partition)
    reader.assign([part])
    if offset is None:
        reader.seek_to_beginning(part)
    else:
        reader.seek(part, offset)
    try:
        return take(reader, count)
    finally:
        reader.close()


def contents(messages):
    return [(each.key, each.value, list(each.headers)) for each in messages]


def compression(codec):
    @suite.behaviour(f"compression.{codec}")
    def _(context):
        topic = make_topic(context, codec, full=cross_topic(context.prefix, context.client, codec))
        records = [cross_record(context.client, codec, number) for number in range(CROSS_RECORDS)]
        send(context, topic, [(key, value, {"headers": [("codec", header)]}) for key, value, header in records],
             compression_type=None if codec == "none" else codec, linger_ms=50)
        equal(contents(read(context, topic, CROSS_RECORDS)),
              [(key, value, [("codec", header)]) for key, value, header in records], "records")


def cross(codec):
    @suite.behaviour(f"cross.{codec}")
    def _(context):
        for client in context.cross[codec]:
            got = read(context, cross_topic(context.prefix, client, codec), CROSS_RECORDS)
            wanted = [cross_record(client, codec, number) for number in range(CROSS_RECORDS)]
            equal(contents(got), [(key, value, [("codec", header)]) for key, value, header in wanted], f"records of {client}")


for each in CODECS:
    compression(each)
    cross(each)


@suite.behaviour("headers")
def headers(context):
    topic = make_topic(context, "headers")
    # This client's producer takes no header without a value.
    wanted = [("a", b"1"), ("b", b""), ("a", b"2"), ("a", bytes(range(256))), ("", b"no key")]
    send(context, topic, [(b"k", b"v", {"headers": wanted}), (b"k", b"bare")])
    got = read(context, topic, 2)
    equal(list(got[0].headers), wanted, "headers")
    equal(list(got[1].headers), [], "headers of a record without")


@suite.behaviour("nulls")
def nulls(context):
    topic = make_topic(context, "nulls")
    wanted = [(None, b"v"), (b"k", None), (b"", b""), (b"", None), (None, b"")]
    send(context, topic, wanted)
    equal([(each.key, each.value) for each in read(context, topic, len(wanted))], wanted, "records")


@suite.behaviour("large")
def large(context):
    topic = make_topic(context, "large", config={"max.message.bytes": str(8 << 20)})
    values = [os.urandom(5_000_000) for _ in range(3)]
    send(context, topic, [(b"k", value) for value in values], max_request_size=8 << 20)
    got = read(context, topic, 3)
    check([each.value for each in got] == values, "the values are not the same")


@suite.behaviour("too-large")
def too_large(context):
    topic = make_topic(context, "too-large", config={"max.message.bytes": "10000"})
    # An idempotent producer of this client takes nothing more after a refusal.
    producer = KafkaProducer(bootstrap_servers=context.bootstrap, enable_idempotence=False)
    fails(kafka_errors.MessageSizeTooLargeError, "a record that is too large", producer.send(topic, os.urandom(20_000)).get, TIMEOUT)
    equal(producer.send(topic, b"small").get(TIMEOUT).offset, 0, "offset of the small record")
    producer.close()


@suite.behaviour("acks")
def acks(context):
    topic = make_topic(context, "acks")
    for number, setting in enumerate((0, 1, "all"), 1):
        send(context, topic, [(None, f"{setting} {place}".encode()) for place in range(10)],
             acks=setting, enable_idempotence=setting == "all")
        read(context, topic, 10 * number)
    equal([each.value for each in read(context, topic, 30)],
          [f"{setting} {place}".encode() for setting in (0, 1, "all") for place in range(10)], "records")


@suite.behaviour("partitions")
def partitions(context):
    topic = make_topic(context, "partitions", 6)
    send(context, topic, [(b"key-%d" % (number % 20), b"%d" % number) for number in range(300)])
    reader = consumer(context)
    reader.assign([TopicPartition(topic, partition) for partition in range(6)])
    reader.seek_to_beginning()
    got = take(reader, 300)
    equal(sorted(int(each.value) for each in got), list(range(300)), "records")
    homes = {}
    for each in got:
        homes.setdefault(each.key, []).append((each.partition, int(each.value)))
    for key, places in homes.items():
        equal(len({partition for partition, _ in places}), 1, f"partitions of {key}")
        check([number for _, number in places] == sorted(number for _, number in places), f"{key} is out of order")
    check(len({places[0][0] for places in homes.values()}) > 1, "all keys are in one partition")
    equal(reader.partitions_for_topic(topic), set(range(6)), "partitions of the topic")
    reader.close()
    offset = send(context, topic, [(None, b"here", {"partition": 4})])[0]
    equal(read(context, topic, 1, partition=4, offset=offset)[0].value, b"here", "the record sent to partition 4")


@suite.behaviour("timestamps")
def timestamps(context):
    topic = make_topic(context, "create-time")
    stamp = int(time.time() * 1000) - 3_600_000
    send(context, topic, [(None, b"%d" % number, {"timestamp_ms": stamp + number}) for number in range(5)])
    equal([(each.timestamp_type, each.timestamp) for each in read(context, topic, 5)],
          [(0, stamp + number) for number in range(5)], "timestamps")
    topic = make_topic(context, "append-time", config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    producer = KafkaProducer(bootstrap_servers=context.bootstrap)
    told = producer.send(topic, b"v", timestamp_ms=stamp).get(TIMEOUT)
    producer.close()
    got = read(context, topic, 1)[0]
    equal(got.timestamp_type, 1, "timestamp type")
    check(before - 5000 <= got.timestamp <= before + 60_000, f"appended at {got.timestamp}, sent at {before}")
    equal(told.timestamp, got.timestamp, "the append time that the producer was told")


@suite.behaviour("idempotent")
def idempotent(context):
    topic = make_topic(context, "idempotent")
    door = context.proxy.open("cut")
    producer = KafkaProducer(bootstrap_servers=door, enable_idempotence=True, batch_size=1000, linger_ms=2,
                             retry_backoff_ms=50, reconnect_backoff_ms=20, reconnect_backoff_max_ms=100)
    futures = []
    for number in range(2000):
        futures.append(producer.send(topic, b"%d" % number))
        if number % 50 == 0:
            time.sleep(0.01)
    producer.flush(40)
    equal(sorted(each.get(TIMEOUT).offset for each in futures), list(range(2000)), "offsets")
    check(context.proxy.cuts(door) >= 6, f"only {context.proxy.cuts(door)} connections were cut")
    equal([int(each.value) for each in read(context, topic, 2000)], list(range(2000)), "records")
    producer.close()


@suite.behaviour("consume.offset")
def consume_offset(context):
    topic = make_topic(context, "offset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    part = TopicPartition(topic, 0)
    reader = consumer(context)
    equal((reader.beginning_offsets([part]), reader.end_offsets([part])), ({part: 0}, {part: 100}), "offsets")
    reader.assign([part])
    reader.seek(part, 40)
    equal(take(reader, 1)[0].value, b"40", "the record at offset 40")
    reader.seek(part, 90)
    equal([each.offset for each in take(reader, 10)], list(range(90, 100)), "offsets after a seek")
    equal(reader.position(part), 100, "position")
    reader.seek_to_beginning(part)
    equal(take(reader, 1)[0].offset, 0, "the beginning")
    reader.seek_to_end(part)
    equal(reader.poll(1000), {}, "from the end")
    send(context, topic, [(None, b"last")])
    equal(take(reader, 1)[0].offset, 100, "what came at the end")
    reader.close()


@suite.behaviour("consume.timestamp")
def consume_timestamp(context):
    topic = make_topic(context, "timestamp")
    start = int(time.time() * 1000) - 1_000_000
    for number in range(10):
        send(context, topic, [(None, b"%d" % number, {"timestamp_ms": start + number * 1000})])
    part = TopicPartition(topic, 0)
    reader = consumer(context)

    def at(when):
        return reader.offsets_for_times({part: when})[part]

    equal((at(start + 4000).offset, at(start + 4000).timestamp), (4, start + 4000), "offset of a timestamp")
    equal(at(start + 4001).offset, 5, "offset after a timestamp")
    equal(at(start - 1).offset, 0, "offset before all")
    equal(at(start + 100_000), None, "offset after all")
    reader.assign([part])
    reader.seek(part, at(start + 6500).offset)
    equal([each.value for each in take(reader, 3)], [b"7", b"8", b"9"], "records from a timestamp")
    reader.close()


@suite.behaviour("consume.reset")
def consume_reset(context):
    topic = make_topic(context, "reset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    admin(context).delete_records({TopicPartition(topic, 0): 30})
    equal(read(context, topic, 1, offset=5)[0].offset, 30, "reset to the beginning")
    equal(read(context, topic, 1, offset=500)[0].offset, 30, "reset from beyond the end")
    fails(kafka_errors.OffsetOutOfRangeError, "a bad position", read, context, topic, 1, offset=5, auto_offset_reset="none")


@suite.behaviour("consume.follow")
def consume_follow(context):
    topic = make_topic(context, "follow")
    reader = consumer(context, fetch_max_wait_ms=5000)
    reader.assign([TopicPartition(topic, 0)])
    equal(reader.poll(1000), {}, "from an empty topic")
    for number in range(5):
        send(context, topic, [(None, b"%d" % number)])
        equal(take(reader, 1)[0].value, b"%d" % number, "what was just written")
    reader.close()


@suite.behaviour("consume.committed")
def consume_committed(context):
    topic = make_topic(context, "committed")
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    for level in ("read_committed", "read_uncommitted"):
        got = read(context, topic, 50, isolation_level=level)
        equal([int(each.value) for each in got], list(range(50)), level)


@suite.behaviour("consume.small-fetch")
def consume_small_fetch(context):
    topic = make_topic(context, "small-fetch", 2)
    values = [os.urandom(200_000) for _ in range(6)]
    send(context, topic, [(None, value, {"partition": place % 2}) for place, value in enumerate(values)])
    reader = consumer(context, fetch_max_bytes=1000, max_partition_fetch_bytes=1000)
    reader.assign([TopicPartition(topic, partition) for partition in range(2)])
    check(sorted(each.value for each in take(reader, 6)) == sorted(values), "the values are not the same")
    reader.close()


class Member(threading.Thread, ConsumerRebalanceListener):
    """A member of a group that polls in a thread of its own."""

    def __init__(self, context, topic, group, bootstrap=None, **settings):
        super().__init__(daemon=True)
        self.consumer = consumer(context, group, **({"bootstrap_servers": bootstrap} if bootstrap else {}), **settings)
        self.owned, self.calls, self.leaving = set(), queue.SimpleQueue(), threading.Event()
        self.seen, self.assigned, self.revoked, self.errors = [], [], [], []
        self.consumer.subscribe([topic], listener=self)
        self.start()

    def on_partitions_assigned(self, assigned):
        self.assigned.append(sorted(each.partition for each in assigned))

    def on_partitions_revoked(self, revoked):
        self.revoked.append(sorted(each.partition for each in revoked))

    def run(self):
        while not self.leaving.is_set():
            try:
                got = self.consumer.poll(POLL_MS)
                self.seen += [each.value for records in got.values() for each in records]
            except kafka_errors.KafkaError as error:
                self.errors.append(error)
            self.owned = {(each.topic, each.partition) for each in self.consumer.assignment()}
            while not self.calls.empty():
                self.calls.get()()
        self.consumer.close(timeout_ms=WAIT_MS)

    def call(self, function):
        """Has the member's own thread call a function with its consumer, and waits for it."""
        done = queue.SimpleQueue()
        self.calls.put(lambda: done.put(function(self.consumer)))
        return done.get(timeout=TIMEOUT)

    def owns(self):
        return self.owned

    def leave(self):
        self.leaving.set()
        self.join(TIMEOUT)
        check(not self.is_alive(), "a member did not close")

    def abandon(self):
        self.leaving.set()


def sender(context, topic):
    return lambda records: send(context, topic, [(None, value, {"partition": partition}) for value, partition in records])


@suite.scenario("group.join", "group.leave", "group.crash")
def group_three(context):
    topic = make_topic(context, "three", 6)
    settings = {"partition_assignment_strategy": [RangePartitionAssignor]}
    return three_members(context, "group", lambda door: Member(context, topic, "three", door, **settings), sender(context, topic))


@suite.behaviour("group.cooperative")
def cooperative(context):
    topic = make_topic(context, "cooperative", 6)
    settings = {"partition_assignment_strategy": [CooperativeStickyAssignor]}
    first = Member(context, topic, "cooperative", **settings)
    share_out([first], [6], "alone")
    second = Member(context, topic, "cooperative", **settings)
    share_out([first, second], [3, 3], "two")
    equal([len(each) for each in first.revoked if each], [3], "partitions taken from the first, at each rebalance")
    each_once(sender(context, topic), [first, second], "cooperative")
    second.leave()
    share_out([first], [6], "alone again")
    first.leave()


@suite.behaviour("group.static")
def static(context):
    topic = make_topic(context, "static", 6)
    settings = {"session_timeout_ms": 20000}
    first = Member(context, topic, "static", group_instance_id="one", **settings)
    second = Member(context, topic, "static", group_instance_id="two", **settings)
    share_out([first, second], [3, 3], "two")
    held, rounds = second.owns(), len(first.assigned)
    second.leave()
    second = Member(context, topic, "static", group_instance_id="two", **settings)
    share_out([first, second], [3, 3], "two again")
    equal((second.owns(), len(first.assigned)), (held, rounds), "what the second has, and the assignments of the first")
    usurper = Member(context, topic, "static", group_instance_id="two", **settings)
    share_out([first, usurper], [3, 3], "a third with the second's instance id")
    # The fenced one keeps quiet about its heartbeats, and is told when it commits.
    until(lambda: second.call(commit_error) is kafka_errors.FencedInstanceIdError, "the second was not fenced")
    second.abandon()
    for each in (first, usurper):
        each.leave()


def commit_error(reader):
    """The error of a commit, if it is refused."""
    try:
        reader.commit({each: OffsetAndMetadata(1, "", -1) for each in reader.assignment()})
    except kafka_errors.KafkaError as error:
        return type(error)
    return None


@suite.behaviour("commit.resume")
def commit_resume(context):
    topic = make_topic(context, "resume")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    first = consumer(context, "resume")
    first.subscribe([topic])
    take(first, 40)
    first.commit({part: OffsetAndMetadata(37, "half way", -1)})
    first.close()
    second = consumer(context, "resume")
    found = second.committed(part, metadata=True)
    equal((found.offset, found.metadata), (37, "half way"), "the committed offset")
    second.subscribe([topic])
    got = take(second, 63)
    equal([each.offset for each in got], list(range(37, 100)), "offsets after resuming")
    told = []
    second.commit_async(callback=lambda *all: told.append(all))
    until(lambda: second.poll(100) == {} and told, "the asynchronous commit was not answered")
    equal(second.committed(part), 100, "after the asynchronous commit")
    equal(second.committed(TopicPartition(topic, 7)), None, "what was never committed")
    second.close()


@suite.behaviour("commit.auto")
def commit_auto(context):
    topic = make_topic(context, "auto")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    reader = consumer(context, "auto", enable_auto_commit=True, auto_commit_interval_ms=200)
    reader.subscribe([topic])
    take(reader, 60)
    other = consumer(context, "auto")

    def committed():
        reader.poll(10, max_records=1)
        return other.committed(part) or 0

    until(lambda: committed() >= 60, "nothing was committed on the way")
    take(reader, 100 - reader.position(part))
    reader.close()
    equal(other.committed(part), 100, "committed by the close")
    other.close()


@suite.behaviour("commit.fenced")
def commit_fenced(context):
    topic = make_topic(context, "fenced")
    part = TopicPartition(topic, 0)
    member = Member(context, topic, "fenced")
    share_out([member], [1], "alone", total=1)
    # Outside of the group: while it has members, a commit without a member's id is refused.
    told = admin(context).alter_group_offsets(context.name("fenced"), {part: OffsetAndMetadata(1, "", -1)})
    check(told[part] in (kafka_errors.UnknownMemberIdError, kafka_errors.IllegalGenerationError), f"a commit from outside: {told}")
    # Inside of it: a member that was removed finds its generation over. It joins anew when it polls, so it does not before.
    described = admin(context).describe_groups([context.name("fenced")])[context.name("fenced")]
    gone = [MemberToRemove(member_id=described["members"][0]["member_id"])]

    def commit(reader):
        admin(context).remove_group_members(context.name("fenced"), gone)
        return commit_error(reader)

    refused = member.call(commit)
    check(refused in (kafka_errors.CommitFailedError, kafka_errors.UnknownMemberIdError), f"the commit: {refused}")
    member.leave()


@suite.behaviour("lag")
def lag(context):
    topic = make_topic(context, "lag", 2)
    parts = [TopicPartition(topic, number) for number in range(2)]
    send(context, topic, [(None, b"%d" % number, {"partition": number % 2}) for number in range(100)])
    reader = consumer(context, "lag")
    reader.subscribe([topic])
    take(reader, 1)
    reader.commit({parts[0]: OffsetAndMetadata(20, "", -1), parts[1]: OffsetAndMetadata(50, "", -1)})
    ends = reader.end_offsets(parts)
    reader.close()
    group = context.name("lag")
    committed = admin(context).list_group_offsets(group)[group]
    equal({part.partition: ends[part] - committed[part].offset for part in parts}, {0: 30, 1: 0}, "lag")


@suite.behaviour("admin.topics")
def admin_topics(context):
    client, name = admin(context), context.name("topics")
    client.create_topics({name: {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "3600000"}}})

    def create(name, partitions=1, replicas=1, **configs):
        return client.create_topics({name: {"num_partitions": partitions, "replication_factor": replicas, "configs": configs}})

    fails(kafka_errors.TopicAlreadyExistsError, "creating it again", create, name)
    fails(kafka_errors.InvalidPartitionsError, "no partitions", create, f"{name}-x", 0)
    fails(kafka_errors.InvalidTopicError, "an illegal name", create, "no/slash")
    fails(kafka_errors.InvalidConfigurationError, "an unknown setting", create, f"{name}-x", **{"no.such": "1"})
    fails(kafka_errors.InvalidReplicationFactorError, "nine replicas", create, f"{name}-x", 1, 9)
    client.create_topics([f"{name}-dry"], validate_only=True)
    until(lambda: name in client.list_topics(), "the topic is not listed")
    check(f"{name}-dry" not in client.list_topics(), "a topic came of a validation")
    described = client.describe_topics([name])[0]
    equal((described["name"], len(described["partitions"]), described["error_code"]), (name, 3, 0), "the topic described")
    equal(described["partitions"][0]["leader_id"], described["partitions"][0]["isr_nodes"][0], "leader")
    by_id = client.describe_topics([uuid.UUID(str(described["topic_id"]))])[0]
    equal((len(by_id["partitions"]), by_id["error_code"]), (3, 0), "the topic described by its id")
    paged = client.describe_topic_partitions([name])["topics"]
    equal([(each["name"], len(each["partitions"])) for each in paged], [(name, 3)], "describe topic partitions")
    client.delete_topics([name])
    until(lambda: name not in client.list_topics(), "the topic is still listed")
    fails(kafka_errors.UnknownTopicOrPartitionError, "deleting it again", client.delete_topics, [name])


@suite.behaviour("admin.partitions")
def admin_partitions(context):
    client, name = admin(context), make_topic(context, "more", 2)
    client.create_partitions({name: 5})
    until(lambda: len(client.describe_topics([name])[0]["partitions"]) == 5, "five partitions")
    fails(kafka_errors.InvalidPartitionsError, "fewer partitions", client.create_partitions, {name: 3})
    fails(kafka_errors.UnknownTopicOrPartitionError, "an unknown topic", client.create_partitions, {f"{name}-none": 3})
    send(context, name, [(None, b"new", {"partition": 4})])
    equal(read(context, name, 1, partition=4)[0].value, b"new", "the record in a new partition")


@suite.behaviour("admin.delete-records")
def admin_delete_records(context):
    client, topic = admin(context), make_topic(context, "cut")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    equal(client.delete_records({part: 20})[part]["low_watermark"], 20, "low watermark")
    fails(kafka_errors.OffsetOutOfRangeError, "beyond the end", client.delete_records, {part: 500})
    equal(read(context, topic, 1)[0].offset, 20, "the first record")
    equal(client.delete_records({part: -1})[part]["low_watermark"], 50, "low watermark after deleting all")


def settings_of(client, kind, name):
    found = client.describe_configs([ConfigResource(kind, name)], config_filter="all")
    return next(iter(found.values()))[name]


@suite.behaviour("admin.configs")
def admin_configs(context):
    client, topic = admin(context), make_topic(context, "configs", config={"retention.ms": "3600000"})
    found = settings_of(client, "TOPIC", topic)
    equal(found["retention.ms"]["value"], "3600000", "retention.ms")
    equal(found["retention.ms"]["config_source"], "DYNAMIC_TOPIC_CONFIG", "source of retention.ms")
    check(found["max.message.bytes"]["config_source"] != "DYNAMIC_TOPIC_CONFIG", "max.message.bytes is not said to be a default")
    client.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": "123456"})], incremental=True)
    until(lambda: settings_of(client, "TOPIC", topic)["max.message.bytes"]["value"] == "123456", "max.message.bytes did not change")
    equal(settings_of(client, "TOPIC", topic)["retention.ms"]["value"], "3600000", "retention.ms after another change")
    client.reset_configs([ConfigResource("TOPIC", topic, {"retention.ms": None})], incremental=True)
    until(lambda: settings_of(client, "TOPIC", topic)["retention.ms"]["config_source"] != "DYNAMIC_TOPIC_CONFIG", "retention.ms was not reset")
    told = client.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": "many"})], incremental=True)
    check("Invalid" in str(told), f"an invalid value: {told}")
    node = client.describe_cluster()["brokers"][0]["broker_id"]
    check("message.max.bytes" in settings_of(client, "BROKER", str(node)), "the broker's settings lack message.max.bytes")


@suite.behaviour("admin.configs.legacy")
def admin_configs_legacy(context):
    client, topic = admin(context), make_topic(context, "legacy", config={"retention.ms": "3600000"})
    client.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": "222222"})], incremental=False)
    until(lambda: settings_of(client, "TOPIC", topic)["max.message.bytes"]["value"] == "222222", "max.message.bytes did not change")
    # This client fills in what it was not given.
    equal(settings_of(client, "TOPIC", topic)["retention.ms"]["value"], "3600000", "retention.ms")


@suite.behaviour("admin.cluster")
def admin_cluster(context):
    found = admin(context).describe_cluster()
    check(found["cluster_id"], "no cluster id")
    node = found["brokers"][0]
    equal(f"{node['host']}:{node['port']}", context.bootstrap, "the node's address")
    check(found["controller_id"] in {each["broker_id"] for each in found["brokers"]}, "the controller is not among the nodes")


@suite.behaviour("admin.log-dirs")
def admin_log_dirs(context):
    topic = make_topic(context, "dirs")
    send(context, topic, [(None, b"x" * 1000)])
    found = admin(context).describe_log_dirs({topic: [0]})
    check(topic in str(found), f"the topic is in no log directory: {found}")


@suite.behaviour("admin.groups")
def admin_groups(context):
    client, topic, group = admin(context), make_topic(context, "groups"), context.name("groups")
    member = Member(context, topic, "groups")
    share_out([member], [1], "alone", total=1)
    listed = {each["group_id"]: each for each in client.list_groups()}
    check(group in listed, "the group is not listed")
    equal((listed[group]["protocol_type"], listed[group]["group_state"]), ("consumer", "Stable"), "the group listed")
    check(group in {each["group_id"] for each in client.list_groups(states_filter=["Stable"])}, "not among the stable groups")
    check(group not in {each["group_id"] for each in client.list_groups(states_filter=["Empty"])}, "among the empty groups")
    described = client.describe_groups([group])[group]
    equal((described["group_state"], described["protocol_type"], len(described["members"])), ("Stable", "consumer", 1), "the group described")
    equal(client.delete_groups([group])[group], "NonEmptyGroupError", "deleting a group with a member")
    member.call(lambda reader: reader.commit({TopicPartition(topic, 0): OffsetAndMetadata(0, "", -1)}))
    member.leave()
    until(lambda: client.describe_groups([group])[group]["group_state"] == "Empty", "the group is not empty")
    equal(client.delete_groups([group])[group], "OK", "deleting the group")
    check(group not in {each["group_id"] for each in client.list_groups()}, "the group is still listed")
    equal(client.delete_groups([group])[group], "GroupIdNotFoundError", "deleting it again")


@suite.behaviour("admin.offsets")
def admin_offsets(context):
    client, topic, group = admin(context), make_topic(context, "offsets", 2), context.name("offsets")
    parts = [TopicPartition(topic, number) for number in range(2)]
    told = client.alter_group_offsets(group, {part: OffsetAndMetadata(11 * (place + 1), "m", -1) for place, part in enumerate(parts)})
    equal({each.__name__ for each in told.values()}, {"NoError"}, "what was told of the commit")

    def committed():
        return {part.partition: found.offset for part, found in client.list_group_offsets(group)[group].items()}

    equal(committed(), {0: 11, 1: 22}, "offsets")
    client.alter_group_offsets(group, {parts[0]: OffsetAndMetadata(5, "", -1)})
    equal(committed(), {0: 5, 1: 22}, "offsets after a change")
    client.delete_group_offsets(group, [parts[1]])
    equal(committed(), {0: 5}, "offsets after a deletion")


@suite.behaviour("admin.list-offsets")
def admin_list_offsets(context):
    client, topic = admin(context), make_topic(context, "list-offsets")
    part = TopicPartition(topic, 0)
    start = int(time.time() * 1000) - 100_000
    send(context, topic, [(None, b"v", {"timestamp_ms": start + after}) for after in (0, 5000, 9000, 3000)])
    client.delete_records({part: 1})

    def at(spec):
        found = client.list_partition_offsets({part: spec})[part]
        return found.offset, found.timestamp

    equal(at(OffsetSpec.EARLIEST)[0], 1, "earliest")
    equal(at(OffsetSpec.LATEST)[0], 4, "latest")
    equal(at(start + 5001), (2, start + 9000), "by timestamp")
    equal(at(OffsetSpec.MAX_TIMESTAMP), (2, start + 9000), "greatest timestamp")


@suite.behaviour("admin.producers")
def admin_producers(context):
    topic = make_topic(context, "producers")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(3)], linger_ms=20)
    found = admin(context).describe_producers([part])[part].active_producers
    equal(len(found), 1, "producers")
    equal((found[0].last_sequence, found[0].producer_epoch), (2, 0), "last sequence and epoch")


@suite.behaviour("admin.config-resources")
def admin_config_resources(context):
    topic = make_topic(context, "resources")
    found = admin(context).list_config_resources(["TOPIC", "BROKER"])
    check(topic in str(found), f"the topic is not among the resources: {found}")
    check("BROKER" in {str(kind).rsplit(".", 1)[-1].upper() for kind in found}, f"no broker among the resources: {list(found)}")


@suite.behaviour("admin.remove-members")
def admin_remove_members(context):
    client, topic, group = admin(context), make_topic(context, "remove"), context.name("remove")
    member = Member(context, topic, "remove", group_instance_id="gone", session_timeout_ms=20000)
    share_out([member], [1], "alone", total=1)
    member.leave()
    # A static member that closed is still there, until it is removed.
    equal(len(client.describe_groups([group])[group]["members"]), 1, "members")
    client.remove_group_members(group, [MemberToRemove(group_instance_id="gone")])
    equal(len(client.describe_groups([group])[group]["members"]), 0, "members after the removal")


suite.main()
