"""What is asked of a group whatever the client: a fair share for each member, and each record once.

A member is whatever has `owns()`, the set of (topic, partition) it has now, and `seen`, the list of values it got.
"""

from .driver import equal, until

PARTITIONS = 6


def share_out(members, sizes, what, total=PARTITIONS, seconds=20):
    """Waits until the members own so many partitions each, none of them twice, all of them together."""

    def done():
        owned = [each.owns() for each in members]
        return sorted(map(len, owned)) == sorted(sizes) and len(set().union(*owned)) == total

    until(done, lambda: f"{what}: the members own {[sorted(each.owns()) for each in members]}", seconds)


def marked(mark, count=60):
    """Values for one check, and the partition of each."""
    return [(f"{mark} {number}".encode(), number % PARTITIONS) for number in range(count)]


def each_once(send, members, mark):
    """Writes records over all partitions with `send([(value, partition)])`; each must come to one member, once."""
    records = marked(mark)
    send(records)
    start = mark.encode() + b" "

    def got():
        return sorted(value for each in members for value in list(each.seen) if value.startswith(start))

    until(lambda: len(got()) >= len(records), lambda: f"{mark}: {len(got())} of {len(records)} records came")
    equal(got(), sorted(value for value, _ in records), f"records of the group, {mark}")


def three_members(context, kind, join, send):
    """Three members join one by one, one leaves, one vanishes; yields the id of each step.

    `join(bootstrap)` starts a member, through another address than the broker's if one is given; `send` as above.
    A member has `leave()`, and `abandon()` for one whose connections are gone.
    """
    door = context.proxy.open()
    members = []
    for bootstrap, sizes in ((None, [6]), (None, [3, 3]), (door, [2, 2, 2])):
        members.append(join(bootstrap))
        share_out(members, sizes, f"after {len(members)} joined")
    each_once(send, members, "joined")
    yield f"{kind}.join"
    first, second, third = members
    second.leave()
    share_out([first, third], [3, 3], "after one left")
    each_once(send, [first, third], "left")
    yield f"{kind}.leave"
    context.proxy.sever(door)
    share_out([first], [6], "after one vanished", seconds=25)
    each_once(send, [first], "vanished")
    third.abandon()
    first.leave()
