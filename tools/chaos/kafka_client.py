"""What runs beside the native clients: a Kafka client of librdkafka, as a process that writes down what it was told.

    kafka_client.py produce BOOTSTRAP TOPIC NAME LEDGER
    kafka_client.py consume BOOTSTRAP TOPIC GROUP LEDGER PROTOCOL

It stops when its standard input ends. A ledger's lines, in the order of what happened:

    a SEQUENCE PARTITION OFFSET   a record was acknowledged there
    f SEQUENCE REASON             a record was refused, or nobody knows
    n COUNT                       so many records were sent; the last line of a producer
    + PARTITION...                these partitions were assigned
    - PARTITION...                these were taken away
    r PARTITION OFFSET VALUE      a record was read
    c PARTITION OFFSET            a commit was acknowledged
    q                             the group's offsets are asked for
    o PARTITION OFFSET            that is what the group has committed
    l PARTITION OFFSET            the same, when nothing is committed any more and no fault is on

Not a part of the checks: it judges nothing, and shares no code with them.
"""

import sys
import threading

import confluent_kafka

INTERVAL = 0.02
COMMIT_EACH = 1.0
ASK_EACH = 0.5
DELIVERED_WITHIN = 150.0
# Longer than any fault: a record that is given up may be stored or not, and then the ledger says nothing.
GIVEN_UP_MS = 600_000


class Ledger:
    """A file of lines, written by several threads."""

    def __init__(self, path):
        self.file, self.lock = open(path, "w", encoding="utf-8"), threading.Lock()

    def write(self, *words):
        with self.lock:
            self.file.write(" ".join(map(str, words)) + "\n")

    def close(self):
        with self.lock:
            self.file.close()


def until_input_ends():
    stop = threading.Event()

    def watch():
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    return stop


def produce(bootstrap, topic, name, path):
    ledger, stop, count, fatal = Ledger(path), until_input_ends(), 0, []
    # One request at a time: when one of several is refused, those behind it come out of order, and librdkafka then begins a new epoch
    # for all partitions; what it had sent to another, and not heard of, it sends there again under new numbers, so it is there twice.
    producer = confluent_kafka.Producer({
        "bootstrap.servers": bootstrap, "client.id": name, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
        "max.in.flight.requests.per.connection": 1,
        "message.timeout.ms": GIVEN_UP_MS, "log_level": 0, "error_cb": lambda error: fatal.append(error) if error.fatal() else None})

    def told(sequence):
        def report(error, message):
            if error is None:
                ledger.write("a", sequence, message.partition(), message.offset())
            else:
                ledger.write("f", sequence, error)
        return report

    while not stop.wait(INTERVAL) and not fatal:
        for _ in range(4):
            try:
                producer.produce(topic, f"{name}-{count}".encode(), on_delivery=told(count))
            except BufferError:
                break
            count += 1
        producer.poll(0)
    left = producer.flush(DELIVERED_WITHIN)
    ledger.write("n", count)
    ledger.close()
    if fatal or left:
        sys.exit(f"{fatal[0] if fatal else ''} {left} records are not delivered after {DELIVERED_WITHIN:.0f} s")


class Offsets:
    """Asks for what the group has committed, as somebody who is no member."""

    def __init__(self, settings, topic, ledger):
        self.asker = confluent_kafka.Consumer({name: value for name, value in settings.items() if name != "group.protocol"})
        self.topic, self.ledger, self.partitions = topic, ledger, []

    def ask(self, kind):
        try:
            self.partitions = self.partitions or sorted(self.asker.list_topics(self.topic, 5.0).topics[self.topic].partitions)
            self.ledger.write("q")
            for found in self.asker.committed([confluent_kafka.TopicPartition(self.topic, each) for each in self.partitions], 5.0):
                if found.error is None and found.offset >= 0:
                    self.ledger.write(kind, found.partition, found.offset)
        except confluent_kafka.KafkaException:
            # The next question is answered.
            pass

    def watch(self, stop):
        while not stop.wait(ASK_EACH):
            self.ask("o")


def consume(bootstrap, topic, group, path, protocol):
    ledger, stop = Ledger(path), until_input_ends()
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "group.protocol": protocol, "enable.auto.commit": False,
                "auto.offset.reset": "earliest", "topic.metadata.refresh.interval.ms": 5000, "log_level": 0}
    member, read, due = confluent_kafka.Consumer(settings), {}, 0

    def commit():
        offsets = [confluent_kafka.TopicPartition(topic, partition, offset) for partition, offset in read.items()]
        if not offsets:
            return
        try:
            for done in member.commit(offsets=offsets, asynchronous=False):
                if done.error is None:
                    ledger.write("c", done.partition, done.offset)
        except confluent_kafka.KafkaException:
            # Not the member any more, or nobody answers: the next commit has it all.
            pass

    def assigned(_, partitions):
        ledger.write("+", *(each.partition for each in partitions))

    def revoked(_, partitions):
        commit()
        lost(_, partitions)

    def lost(_, partitions):
        for each in partitions:
            read.pop(each.partition, None)
        ledger.write("-", *(each.partition for each in partitions))

    member.subscribe([topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    offsets = Offsets(settings, topic, ledger)
    asker = threading.Thread(target=offsets.watch, args=(stop,))
    asker.start()
    while not stop.is_set():
        for message in member.consume(500, 0.1):
            if message.error() is None:
                ledger.write("r", message.partition(), message.offset(), message.value().decode())
                read[message.partition()] = message.offset() + 1
        due += 1
        if due * 0.1 >= COMMIT_EACH:
            due = 0
            commit()
            ledger.file.flush()
    commit()
    member.close()
    asker.join()
    offsets.ask("l")
    offsets.asker.close()
    ledger.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
