"""aiokafka: what it is asked to show is in ../behaviours.json.

One event loop runs in a thread of its own; the behaviours hand it coroutines and wait.
"""

import asyncio
import functools
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition  # noqa: E402
from aiokafka import errors as kafka_errors  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete  # noqa: E402
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: E402
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: E402

from harness.driver import CODECS, CROSS_RECORDS, Suite, check, cross_record, cross_topic, equal, until  # noqa: E402
from harness.groups import share_out, three_members  # noqa: E402

suite = Suite()
TIMEOUT = 15
LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(coroutine, seconds=2 * TIMEOUT):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(seconds)


def on_loop(call, *arguments):
    """A call that is no coroutine, but must be made on the loop."""

    async def go():
        return call(*arguments)

    return wait(go())


def started(kind, **settings):
    """A producer, consumer or admin client, made and started on the loop."""

    async def go():
        made = kind(**settings)
        await made.start()
        return made

    return wait(go())


@functools.cache
def admin(context):
    return started(AIOKafkaAdminClient, bootstrap_servers=context.bootstrap)


def fails(error, what, coroutine):
    """The call must fail with this error."""
    try:
        got = wait(coroutine)
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{what}: got {type(other).__name__}, wanted {error.__name__}") from other
    raise AssertionError(f"{what} was not refused: {got}")


def refused(response, error, what):
    """The response to making or deleting topics must hold this error."""
    equal(topic_errors(response), [error.errno], what)


def topic_errors(response):
    rows = response.topic_errors if hasattr(response, "topic_errors") else response.topic_error_codes
    return [row[1] for row in rows]


def create(context, name, partitions=1, config=None, replicas=1, **more):
    return wait(admin(context).create_topics([NewTopic(name, partitions, replicas, topic_configs=config or {})], **more))


def make_topic(context, what, partitions=1, config=None, full=None):
    name = full or context.name(what)
    equal(topic_errors(create(context, name, partitions, config)), [0], f"making topic {name}")
    until(lambda: len(described(context, name)["partitions"]) == partitions, f"topic {name} is not seen")
    return name


def described(context, name):
    return wait(admin(context).describe_topics([name]))[0]


def send(context, topic, records, **settings):
    """Sends (key, value[, more]) and returns the offsets; a refusal fails the behaviour."""

    async def go():
        async with AIOKafkaProducer(bootstrap_servers=context.bootstrap, **settings) as producer:
            futures = [await producer.send(topic, key=key, value=value, **(more[0] if more else {})) for key, value, *more in records]
            return [getattr(each, "offset", None) for each in await asyncio.gather(*futures)]

    return wait(go())


def consumer(context, group=None, **settings):
    return started(AIOKafkaConsumer, **{
        "bootstrap_servers": context.bootstrap,
        "group_id": context.name(group) if group else None,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 500,
        **settings,
    })


def take(reader, count, seconds=TIMEOUT):
    """Polls until so many records are there."""
    got = []
    end = time.monotonic() + seconds
    while len(got) < count:
        check(time.monotonic() < end, f"{len(got)} of {count} records within {seconds} s")
        for records in wait(reader.getmany(timeout_ms=200, max_records=count - len(got))).values():
            got += records
    return got


def read(context, topic, count, partition=0, offset=None, **settings):
    """Reads so many records of one partition, outside of any group."""
    reader = consumer(context, **settings)
    part = TopicPartition(topic, partition)
    on_loop(reader.assign, [part])
    if offset is None:
        wait(reader.seek_to_beginning(part))
    else:
        on_loop(reader.seek, part, offset)
    try:
        return take(reader, count)
    finally:
        wait(reader.stop())


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
    wanted = [("a", b"1"), ("b", b""), ("a", b"2"), ("c", None), ("a", bytes(range(256))), ("", b"no key")]
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
    check([each.value for each in read(context, topic, 3)] == values, "the values are not the same")


@suite.behaviour("too-large")
def too_large(context):
    topic = make_topic(context, "too-large", config={"max.message.bytes": "10000"})
    producer = started(AIOKafkaProducer, bootstrap_servers=context.bootstrap)
    fails(kafka_errors.MessageSizeTooLargeError, "a record that is too large", producer.send_and_wait(topic, os.urandom(20_000)))
    equal(wait(producer.send_and_wait(topic, b"small")).offset, 0, "offset of the small record")
    wait(producer.stop())


@suite.behaviour("acks")
def acks(context):
    topic = make_topic(context, "acks")
    for number, setting in enumerate((0, 1, "all"), 1):
        send(context, topic, [(None, f"{setting} {place}".encode()) for place in range(10)], acks=setting)
        read(context, topic, 10 * number)
    equal([each.value for each in read(context, topic, 30)],
          [f"{setting} {place}".encode() for setting in (0, 1, "all") for place in range(10)], "records")


@suite.behaviour("partitions")
def partitions(context):
    topic = make_topic(context, "partitions", 6)
    send(context, topic, [(b"key-%d" % (number % 20), b"%d" % number) for number in range(300)])
    reader = consumer(context)
    on_loop(reader.assign, [TopicPartition(topic, partition) for partition in range(6)])
    wait(reader.seek_to_beginning())
    got = take(reader, 300)
    equal(sorted(int(each.value) for each in got), list(range(300)), "records")
    homes = {}
    for each in got:
        homes.setdefault(each.key, []).append((each.partition, int(each.value)))
    for key, places in homes.items():
        equal(len({partition for partition, _ in places}), 1, f"partitions of {key}")
        check([number for _, number in places] == sorted(number for _, number in places), f"{key} is out of order")
    check(len({places[0][0] for places in homes.values()}) > 1, "all keys are in one partition")
    wait(reader.stop())
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
    send(context, topic, [(None, b"v", {"timestamp_ms": stamp})])
    got = read(context, topic, 1)[0]
    equal(got.timestamp_type, 1, "timestamp type")
    check(before - 5000 <= got.timestamp <= before + 60_000, f"appended at {got.timestamp}, sent at {before}")


@suite.behaviour("idempotent")
def idempotent(context):
    topic = make_topic(context, "idempotent")
    door = context.proxy.open("cut")

    async def go():
        async with AIOKafkaProducer(bootstrap_servers=door, enable_idempotence=True, max_batch_size=1000, linger_ms=2,
                                    retry_backoff_ms=50) as producer:
            futures = []
            for number in range(2000):
                futures.append(await producer.send(topic, b"%d" % number))
            return [each.offset for each in await asyncio.gather(*futures)]

    equal(sorted(wait(go(), 50)), list(range(2000)), "offsets")
    check(context.proxy.cuts(door) >= 6, f"only {context.proxy.cuts(door)} connections were cut")
    equal([int(each.value) for each in read(context, topic, 2000)], list(range(2000)), "records")


@suite.behaviour("consume.offset")
def consume_offset(context):
    topic = make_topic(context, "offset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    part = TopicPartition(topic, 0)
    reader = consumer(context)
    equal((wait(reader.beginning_offsets([part])), wait(reader.end_offsets([part]))), ({part: 0}, {part: 100}), "offsets")
    on_loop(reader.assign, [part])
    on_loop(reader.seek, part, 40)
    equal(take(reader, 1)[0].value, b"40", "the record at offset 40")
    on_loop(reader.seek, part, 90)
    equal([each.offset for each in take(reader, 10)], list(range(90, 100)), "offsets after a seek")
    equal(wait(reader.position(part)), 100, "position")
    wait(reader.seek_to_beginning(part))
    equal(take(reader, 1)[0].offset, 0, "the beginning")
    wait(reader.seek_to_end(part))
    equal(wait(reader.getmany(timeout_ms=1000)), {}, "from the end")
    send(context, topic, [(None, b"last")])
    equal(take(reader, 1)[0].offset, 100, "what came at the end")
    wait(reader.stop())


@suite.behaviour("consume.timestamp")
def consume_timestamp(context):
    topic = make_topic(context, "timestamp")
    start = int(time.time() * 1000) - 1_000_000
    for number in range(10):
        send(context, topic, [(None, b"%d" % number, {"timestamp_ms": start + number * 1000})])
    part = TopicPartition(topic, 0)
    reader = consumer(context)

    def at(when):
        return wait(reader.offsets_for_times({part: when}))[part]

    equal((at(start + 4000).offset, at(start + 4000).timestamp), (4, start + 4000), "offset of a timestamp")
    equal(at(start + 4001).offset, 5, "offset after a timestamp")
    equal(at(start - 1).offset, 0, "offset before all")
    equal(at(start + 100_000), None, "offset after all")
    on_loop(reader.assign, [part])
    on_loop(reader.seek, part, at(start + 6500).offset)
    equal([each.value for each in take(reader, 3)], [b"7", b"8", b"9"], "records from a timestamp")
    wait(reader.stop())


def cut(context, topic, offset):
    """Deletes the records before the offset; returns the low watermark."""
    part = TopicPartition(topic, 0)
    return wait(admin(context).delete_records({part: RecordsToDelete(before_offset=offset)}))[part]


@suite.behaviour("consume.reset")
def consume_reset(context):
    topic = make_topic(context, "reset")
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    cut(context, topic, 30)
    equal(read(context, topic, 1, offset=5)[0].offset, 30, "reset to the beginning")
    equal(read(context, topic, 1, offset=500)[0].offset, 30, "reset from beyond the end")
    try:
        read(context, topic, 1, offset=5, auto_offset_reset="none")
    except kafka_errors.OffsetOutOfRangeError:
        return
    raise AssertionError("a bad position was not refused")


@suite.behaviour("consume.follow")
def consume_follow(context):
    topic = make_topic(context, "follow")
    reader = consumer(context, fetch_max_wait_ms=5000)
    part = TopicPartition(topic, 0)
    on_loop(reader.assign, [part])
    wait(reader.seek_to_beginning(part))
    equal(wait(reader.getmany(timeout_ms=1000)), {}, "from an empty topic")
    for number in range(5):
        send(context, topic, [(None, b"%d" % number)])
        equal(take(reader, 1)[0].value, b"%d" % number, "what was just written")
    wait(reader.stop())


@suite.behaviour("consume.committed")
def consume_committed(context):
    topic = make_topic(context, "committed")
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    for level in ("read_committed", "read_uncommitted"):
        equal([int(each.value) for each in read(context, topic, 50, isolation_level=level)], list(range(50)), level)


@suite.behaviour("consume.small-fetch")
def consume_small_fetch(context):
    topic = make_topic(context, "small-fetch", 2)
    values = [os.urandom(200_000) for _ in range(6)]
    send(context, topic, [(None, value, {"partition": place % 2}) for place, value in enumerate(values)])
    reader = consumer(context, fetch_max_bytes=1000, max_partition_fetch_bytes=1000)
    on_loop(reader.assign, [TopicPartition(topic, partition) for partition in range(2)])
    wait(reader.seek_to_beginning())
    check(sorted(each.value for each in take(reader, 6)) == sorted(values), "the values are not the same")
    wait(reader.stop())


class Member(ConsumerRebalanceListener):
    """A member of a group that polls in a task of its own."""

    def __init__(self, context, topic, group, bootstrap=None, **settings):
        self.seen, self.assigned, self.revoked, self.errors = [], [], [], []
        self.settings = {
            "bootstrap_servers": bootstrap or context.bootstrap,
            "group_id": context.name(group),
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 6000,
            "heartbeat_interval_ms": 500,
            **settings,
        }
        self.consumer, self.closed = None, threading.Event()
        self.task = asyncio.run_coroutine_threadsafe(self._run(topic), LOOP)

    async def on_partitions_assigned(self, assigned):
        self.assigned.append(sorted(each.partition for each in assigned))

    async def on_partitions_revoked(self, revoked):
        self.revoked.append(sorted(each.partition for each in revoked))

    async def _run(self, topic):
        self.consumer = AIOKafkaConsumer(**self.settings)
        self.consumer.subscribe([topic], listener=self)
        try:
            await self.consumer.start()
            while True:
                try:
                    got = await self.consumer.getmany(timeout_ms=100)
                except kafka_errors.KafkaError as error:
                    self.errors.append(error)
                    await asyncio.sleep(0.1)
                    continue
                self.seen += [each.value for records in got.values() for each in records]
        except asyncio.CancelledError:
            await self.consumer.stop()
            self.closed.set()

    def owns(self):
        return {(each.topic, each.partition) for each in self.consumer.assignment()} if self.consumer else set()

    def leave(self):
        self.task.cancel()
        # The cancelled future says nothing of the end of the task.
        check(self.closed.wait(TIMEOUT), "a member did not close")

    def abandon(self):
        self.task.cancel()


def sender(context, topic):
    return lambda records: send(context, topic, [(None, value, {"partition": partition}) for value, partition in records])


@suite.scenario("group.join", "group.leave", "group.crash")
def group_three(context):
    topic = make_topic(context, "three", 6)
    settings = {"partition_assignment_strategy": [RangePartitionAssignor]}
    return three_members(context, "group", lambda door: Member(context, topic, "three", door, **settings), sender(context, topic))


@suite.behaviour("group.static")
def static(context):
    topic = make_topic(context, "static", 6)
    settings = {"session_timeout_ms": 20000, "partition_assignment_strategy": [RangePartitionAssignor]}
    first = Member(context, topic, "static", group_instance_id="one", **settings)
    second = Member(context, topic, "static", group_instance_id="two", **settings)
    share_out([first, second], [3, 3], "two")
    held, rounds = second.owns(), len(first.assigned)
    second.leave()
    second = Member(context, topic, "static", group_instance_id="two", **settings)
    share_out([first, second], [3, 3], "two again")
    equal((second.owns(), len(first.assigned)), (held, rounds), "what the second has, and the assignments of the first")
    for each in (first, second):
        each.leave()


@suite.behaviour("commit.resume")
def commit_resume(context):
    topic = make_topic(context, "resume")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    first = consumer(context, "resume")
    on_loop(first.subscribe, [topic])
    take(first, 40)
    wait(first.commit({part: (37, "half way")}))
    wait(first.stop())
    found = wait(admin(context).list_consumer_group_offsets(context.name("resume")))
    equal(found[part], (37, "half way"), "the committed offset")
    second = consumer(context, "resume")
    on_loop(second.subscribe, [topic])
    equal([each.offset for each in take(second, 63)], list(range(37, 100)), "offsets after resuming")
    wait(second.commit())
    equal(wait(second.committed(part)), 100, "after the commit of the position")
    equal(wait(second.committed(TopicPartition(topic, 7))), None, "what was never committed")
    wait(second.stop())


@suite.behaviour("commit.auto")
def commit_auto(context):
    topic = make_topic(context, "auto")
    part = TopicPartition(topic, 0)
    send(context, topic, [(None, b"%d" % number) for number in range(100)])
    reader = consumer(context, "auto", enable_auto_commit=True, auto_commit_interval_ms=200)
    on_loop(reader.subscribe, [topic])
    take(reader, 60)
    other = consumer(context, "auto")
    until(lambda: (wait(other.committed(part)) or 0) >= 60, "nothing was committed on the way")
    take(reader, 40)
    wait(reader.stop())
    equal(wait(other.committed(part)), 100, "committed by the close")
    wait(other.stop())


@suite.behaviour("commit.fenced")
def commit_fenced(context):
    topic = make_topic(context, "fenced")
    part = TopicPartition(topic, 0)
    member = Member(context, topic, "fenced")
    share_out([member], [1], "alone", total=1)
    # Outside of the group: while it has members, a commit without a member's id is refused.
    stranger = consumer(context, "fenced")
    on_loop(stranger.assign, [part])
    try:
        wait(stranger.commit({part: 1}))
        raise AssertionError("a commit from outside of a group with members was accepted")
    except (kafka_errors.CommitFailedError, kafka_errors.UnknownMemberIdError, kafka_errors.IllegalGenerationError):
        pass
    wait(stranger.stop())
    member.leave()


@suite.behaviour("lag")
def lag(context):
    topic = make_topic(context, "lag", 2)
    parts = [TopicPartition(topic, number) for number in range(2)]
    send(context, topic, [(None, b"%d" % number, {"partition": number % 2}) for number in range(100)])
    reader = consumer(context, "lag")
    on_loop(reader.subscribe, [topic])
    take(reader, 1)
    wait(reader.commit({parts[0]: 20, parts[1]: 50}))
    ends = wait(reader.end_offsets(parts))
    wait(reader.stop())
    committed = wait(admin(context).list_consumer_group_offsets(context.name("lag")))
    equal({part.partition: ends[part] - committed[part].offset for part in parts}, {0: 30, 1: 0}, "lag")


@suite.behaviour("admin.topics")
def admin_topics(context):
    client, name = admin(context), context.name("topics")
    equal(topic_errors(create(context, name, 3, {"retention.ms": "3600000"})), [0], "creating")
    refused(create(context, name), kafka_errors.TopicAlreadyExistsError, "creating it again")
    refused(create(context, f"{name}-x", 0), kafka_errors.InvalidPartitionsError, "no partitions")
    refused(create(context, "no/slash"), kafka_errors.InvalidTopicError, "an illegal name")
    refused(create(context, f"{name}-x", config={"no.such": "1"}), kafka_errors.InvalidConfigurationError, "an unknown setting")
    refused(create(context, f"{name}-x", replicas=9), kafka_errors.InvalidReplicationFactorError, "nine replicas")
    equal(topic_errors(create(context, f"{name}-dry", validate_only=True)), [0], "a validation")
    until(lambda: name in wait(client.list_topics()), "the topic is not listed")
    check(f"{name}-dry" not in wait(client.list_topics()), "a topic came of a validation")
    found = described(context, name)
    equal((found["topic"], found["error_code"], len(found["partitions"])), (name, 0, 3), "the topic described")
    equal(topic_errors(wait(client.delete_topics([name]))), [0], "deleting")
    until(lambda: name not in wait(client.list_topics()), "the topic is still listed")
    refused(wait(client.delete_topics([name])), kafka_errors.UnknownTopicOrPartitionError, "deleting it again")


@suite.behaviour("admin.partitions")
def admin_partitions(context):
    client, name = admin(context), make_topic(context, "more", 2)
    wait(client.create_partitions({name: NewPartitions(5)}))
    until(lambda: len(described(context, name)["partitions"]) == 5, "five partitions")
    fails(kafka_errors.InvalidPartitionsError, "fewer partitions", client.create_partitions({name: NewPartitions(3)}))
    fails(kafka_errors.UnknownTopicOrPartitionError, "an unknown topic", client.create_partitions({f"{name}-none": NewPartitions(3)}))
    send(context, name, [(None, b"new", {"partition": 4})])
    equal(read(context, name, 1, partition=4)[0].value, b"new", "the record in a new partition")


@suite.behaviour("admin.delete-records")
def admin_delete_records(context):
    topic = make_topic(context, "cut")
    send(context, topic, [(None, b"%d" % number) for number in range(50)])
    equal(cut(context, topic, 20), 20, "low watermark")
    part = TopicPartition(topic, 0)
    fails(kafka_errors.OffsetOutOfRangeError, "beyond the end", admin(context).delete_records({part: RecordsToDelete(before_offset=500)}))
    equal(read(context, topic, 1)[0].offset, 20, "the first record")
    equal(cut(context, topic, -1), 50, "low watermark after deleting all")


def settings_of(client, kind, name):
    """Setting -> (value, source or whether it is a default)."""
    answer = wait(client.describe_configs([ConfigResource(kind, name)]))[0]
    (code, _, _, _, entries), = answer.resources
    equal(code, 0, f"error code of describing {name}")
    return {entry[0]: (entry[1], entry[3]) for entry in entries}


# How DescribeConfigs v1 and later name the source of a topic's own setting.
TOPIC_SOURCE = 1


@suite.behaviour("admin.configs")
def admin_configs(context):
    client, topic = admin(context), make_topic(context, "configs", config={"retention.ms": "3600000"})
    found = settings_of(client, ConfigResourceType.TOPIC, topic)
    equal(found["retention.ms"], ("3600000", TOPIC_SOURCE), "retention.ms")
    check(found["max.message.bytes"][1] != TOPIC_SOURCE, "max.message.bytes is not said to be a default")
    node = wait(client.describe_cluster())["brokers"][0]["node_id"]
    check("message.max.bytes" in settings_of(client, ConfigResourceType.BROKER, str(node)), "the broker's settings lack message.max.bytes")


@suite.behaviour("admin.configs.legacy")
def admin_configs_legacy(context):
    client, topic = admin(context), make_topic(context, "legacy", config={"retention.ms": "3600000"})
    wait(client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "222222"})]))
    until(lambda: settings_of(client, ConfigResourceType.TOPIC, topic)["max.message.bytes"][0] == "222222", "no change")
    check(settings_of(client, ConfigResourceType.TOPIC, topic)["retention.ms"][1] != TOPIC_SOURCE, "AlterConfigs kept a setting it was not given")


@suite.behaviour("admin.cluster")
def admin_cluster(context):
    found = wait(admin(context).describe_cluster())
    node = found["brokers"][0]
    equal(f"{node['host']}:{node['port']}", context.bootstrap, "the node's address")
    check(found["controller_id"] in {each["node_id"] for each in found["brokers"]}, "the controller is not among the nodes")


@suite.behaviour("admin.groups")
def admin_groups(context):
    client, topic, group = admin(context), make_topic(context, "groups"), context.name("groups")
    member = Member(context, topic, "groups")
    share_out([member], [1], "alone", total=1)
    check((group, "consumer") in wait(client.list_consumer_groups()), "the group is not listed")
    answer = wait(client.describe_consumer_groups([group]))[0].to_object()["groups"][0]
    equal((answer["error_code"], answer["group"], answer["state"], answer["protocol_type"], len(answer["members"])),
          (0, group, "Stable", "consumer", 1), "the group described")
    member.leave()
    until(lambda: wait(client.describe_consumer_groups([group]))[0].to_object()["groups"][0]["state"] in ("Empty", "Dead"), "the group is not empty")


@suite.behaviour("admin.offsets")
def admin_offsets(context):
    client, topic = admin(context), make_topic(context, "offsets", 2)
    parts = [TopicPartition(topic, number) for number in range(2)]
    reader = consumer(context, "offsets")
    on_loop(reader.assign, parts)
    wait(reader.commit({parts[0]: (11, "a"), parts[1]: (22, "b")}))
    wait(reader.stop())
    found = wait(client.list_consumer_group_offsets(context.name("offsets")))
    equal(found, {parts[0]: (11, "a"), parts[1]: (22, "b")}, "offsets")
    some = wait(client.list_consumer_group_offsets(context.name("offsets"), partitions=[parts[1]]))
    equal(some, {parts[1]: (22, "b")}, "offsets of one partition")


suite.main()
