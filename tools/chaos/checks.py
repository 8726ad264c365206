"""What must hold: ledgers of what clients were told, against what is stored in the end on every replica.

What a record is stands at the beginning of its line, up to a space; padding follows. A log here is the list of its lines, one for each offset from 0 on: nothing is deleted or compacted in these runs, and there are no
transactions, so an offset without a record is a violation, too.
"""

import collections

from cluster import VOTERS, Violation


def parse_rows(rows, whose):
    """Rows `PARTITION OFFSET LINE` in any order of partitions, as {partition: {offset: line}}; one record an offset."""
    found = collections.defaultdict(dict)
    for row in rows:
        partition, offset, line = row.split(" ", 2)
        put(found, int(partition), int(offset), identity(line), whose)
    return found


def identity(line):
    return line.partition(" ")[0]


def put(found, partition, offset, line, whose):
    before = found[partition].setdefault(offset, line)
    if before != line:
        raise Violation(f"{whose}: {partition}/{offset} was {before}, and then {line}")


def read(cluster, topic, broker):
    """Every record that this broker tells of, to the end: {partition: [line of offset 0, ...]}."""
    asked = cluster.ask(broker, "consume", topic, "--from", "earliest", "--format", "%p %o %v\\n", check=True)
    found = parse_rows(asked.stdout.splitlines(), f"broker {broker}")
    logs = {}
    for partition, records in found.items():
        holes = [offset for offset in range(len(records)) if offset not in records]
        if holes:
            raise Violation(f"broker {broker}: {partition} has no record at {holes[0]}")
        logs[partition] = [records[offset] for offset in range(len(records))]
    return logs


def check_records(logs, sent):
    """What each producer sent (name: count) is there, once, in its order within each partition, and nothing else is."""
    seen = {name: bytearray(count) for name, count in sent.items()}
    for partition, lines in logs.items():
        last = {}
        for offset, line in enumerate(lines):
            name, _, number = line.partition("-")
            at = int(number) if number.isdecimal() else -1
            if name not in seen or not 0 <= at < len(seen[name]):
                raise Violation(f"{line} at {partition}/{offset} was sent by nobody")
            if seen[name][at]:
                raise Violation(f"{line} at {partition}/{offset} is there twice")
            if last.get(name, -1) >= at:
                raise Violation(f"{line} at {partition}/{offset} is behind a later one of its producer")
            seen[name][at], last[name] = 1, at
    for name, there in seen.items():
        if 0 in there:
            raise Violation(f"{there.count(0)} acknowledged records of producer {name} are missing, for example {name}-{there.index(0)}")


def check_acknowledged(rows, logs, name):
    """A Kafka producer's ledger: each record where it was acknowledged. Returns how many it sent."""
    count = None
    for row in rows:
        kind, *words = row.split(" ")
        if kind == "a":
            sequence, partition, offset = (int(word) for word in words)
            lines = logs.get(partition, [])
            found = lines[offset] if offset < len(lines) else "nothing"
            if found != f"{name}-{sequence}":
                raise Violation(f"{name}-{sequence} was acknowledged at {partition}/{offset}, where {found} is")
        elif kind == "f":
            raise Violation(f"record {words[0]} of the Kafka producer failed: {' '.join(words[1:])}")
        elif kind == "n":
            count = int(words[0])
    if count is None:
        raise Violation("the Kafka producer's ledger has no end")
    return count


def check_seen(found, logs, whose):
    """What a reader saw on its way is what is stored now."""
    for partition, records in found.items():
        lines = logs.get(partition, [])
        for offset, line in records.items():
            if offset >= len(lines) or lines[offset] != line:
                now = lines[offset] if offset < len(lines) else "nothing"
                raise Violation(f"{whose} saw {line} at {partition}/{offset}, where {now} is now")


def check_follower(rows, logs):
    """The native reader: from the beginning, each record once, in order, up to the end."""
    following = {}
    for row in rows:
        partition, offset, _ = row.split(" ", 2)
        expected = following.get(int(partition), 0)
        if int(offset) != expected:
            raise Violation(f"the native reader saw {partition}/{offset} when {expected} was next")
        following[int(partition)] = expected + 1
    for partition, lines in logs.items():
        if following.get(partition, 0) != len(lines):
            raise Violation(f"the native reader saw {following.get(partition, 0)} of {len(lines)} records of {partition}")
    check_seen(parse_rows(rows, "the native reader"), logs, "the native reader")


def check_member(rows, whose, is_fresh):
    """One member's ledger: within an assignment each next record, commits never back. Returns what it read, and how many answers
    about the group's offsets were older than one before. None may be, where answers are fresh: a coordinator that was cut off or
    stood still does not know that there is another, and tells what it knew; so do Kafka's. It acknowledges nothing, and in the end,
    when all is well, the offsets are those that were acknowledged.
    """
    found, following, committed, asked, older = collections.defaultdict(dict), {}, {}, {}, 0
    for row in rows:
        kind, _, rest = row.partition(" ")
        if kind == "r":
            partition, offset, line = rest.split(" ", 2)
            partition, offset = int(partition), int(offset)
            expected = following.get(partition)
            if expected is not None and offset != expected:
                raise Violation(f"{whose} read {partition}/{offset} when {expected} was next")
            following[partition] = offset + 1
            put(found, partition, offset, identity(line), whose)
        elif kind in "+-":
            for partition in rest.split():
                following.pop(int(partition), None)
        elif kind == "q":
            asked = dict(committed)
        elif kind in "col":
            partition, offset = (int(word) for word in rest.split())
            if kind != "c" and offset < asked.get(partition, 0):
                older += 1
                if kind == "l" or is_fresh:
                    raise Violation(f"the group's offset of {partition} was {asked[partition]}, and then {offset}")
            committed[partition] = max(offset, committed.get(partition, 0))
    return found, older


def unseen(logs, members):
    """The first record that no member of the group has read, and how many there are."""
    count, first = 0, None
    for partition, lines in logs.items():
        seen = set().union(*(found.get(partition, {}) for found in members))
        missing = [offset for offset in range(len(lines)) if offset not in seen]
        if missing and first is None:
            first = f"{lines[missing[0]]} at {partition}/{missing[0]}"
        count += len(missing)
    return count, first


def check_replicas(cluster, topic, logs):
    """Makes each broker in turn the leader of every partition, and reads everything again."""
    for leader in VOTERS:
        order = ",".join(str(broker) for broker in (leader, *(other for other in VOTERS if other != leader)))
        for partition in logs:
            cluster.ask(leader, "cluster", "reassign", topic, "--partition", str(partition), "--replicas", order, check=True)
        cluster.healthy()
        cluster.ask(leader, "cluster", "elect-preferred", topic, check=True)
        others = [held["partition"] for held in cluster.topic(topic) if held["leader"] != leader]
        if others:
            raise Violation(f"broker {leader} does not lead partitions {others}, which it should")
        if read(cluster, topic, leader) != logs:
            raise Violation(f"broker {leader} has other records than were read first")
