"""What is done to the brokers: each fault begins, is on for a while, and ends; one may begin and end while another is on.

Every choice comes from the seed. A fault's generator does what begins it, yields what it is for the reader, and ends it; so the end
comes also when something fails in between.
"""

import contextlib
import json
import time

from cluster import HEALTHY_WITHIN, SPARE, VOTERS, Violation
from network import CLIENTS

MOVED_WITHIN = 60.0
# Moved to the fourth broker, of the partitions.
MOVES = 2


def kill(stage, chance):
    victim = chance.choice(VOTERS)
    stage.cluster.kill(victim)
    yield f"broker {victim}"
    stage.cluster.start(victim)


def stop(stage, chance):
    victim = chance.choice(VOTERS)
    stage.cluster.stop(victim)
    yield f"broker {victim}"
    stage.cluster.start(victim)


def pause(stage, chance):
    victim = chance.choice(VOTERS)
    stage.cluster.pause(victim)
    try:
        yield f"broker {victim}"
    finally:
        stage.cluster.resume(victim)


def kill_two(stage, chance):
    first, second = chance.sample(VOTERS, 2)
    stage.cluster.kill(first)
    stage.cluster.kill(second)
    yield f"brokers {first} and {second}"
    # The one that died last comes back first, or last.
    for broker in chance.sample((first, second), 2):
        stage.cluster.start(broker)
        time.sleep(chance.uniform(0.0, 1.0))


def kill_all(stage, chance):
    for broker in VOTERS:
        stage.cluster.kill(broker)
        time.sleep(chance.uniform(0.0, 0.3))
    order = chance.sample(VOTERS, len(VOTERS))
    yield f"back as {', '.join(map(str, order))}"
    for broker in order:
        stage.cluster.start(broker)
        time.sleep(chance.uniform(0.0, 1.0))


def roll(stage, chance):
    """Every broker is stopped and started, each when the one before is whole."""
    order = chance.sample(VOTERS, len(VOTERS))
    for broker in order[:-1]:
        stage.cluster.stop(broker)
        stage.cluster.start(broker)
        stage.cluster.healthy()
    stage.cluster.stop(order[-1])
    yield f"brokers {', '.join(map(str, order))}"
    stage.cluster.start(order[-1])


def cut(stage, chance):
    one, other = chance.sample(VOTERS, 2)
    yield from blocked(stage, {(one, other), (other, one)}, f"between {one} and {other}")


def cut_one_way(stage, chance):
    one, other = chance.sample(VOTERS, 2)
    yield from blocked(stage, {(one, other)}, f"from {one} to {other}")


def isolate(stage, chance):
    """A broker and all others, one way or both, and its clients with it or not."""
    victim = chance.choice(VOTERS)
    ways = chance.choice(("to", "from", "to and from"))
    others = [broker for broker in (*VOTERS, SPARE) if broker != victim] + ([CLIENTS] if chance.random() < 0.5 else [])
    pairs = {(victim, other) for other in others if "from" in ways} | {(other, victim) for other in others if "to" in ways}
    yield from blocked(stage, pairs, f"all ways {ways} {victim}" + (", clients' too" if CLIENTS in others else ""))


def blocked(stage, pairs, said):
    stage.network.block(pairs)
    try:
        yield said
    finally:
        stage.network.unblock(pairs)


def lossy(stage, chance):
    victim, share = chance.choice(VOTERS), chance.choice((0.05, 0.2, 0.5))
    stage.network.lose(victim, share)
    try:
        yield f"{share:.0%} of what broker {victim} sends"
    finally:
        stage.network.lose(victim, 0)


def slow(stage, chance):
    victim = chance.choice(VOTERS)
    stage.network.slow_down(victim)
    try:
        yield f"what is sent to broker {victim}"
    finally:
        stage.network.speed_up(victim)


def full_disk(stage, chance):
    victim = chance.choice(VOTERS)
    stage.disks.fill(victim)
    try:
        yield f"broker {victim}"
        # What it had freed meanwhile.
        stage.disks.fill(victim)
        time.sleep(chance.uniform(0.5, 2.0))
    finally:
        stage.disks.free(victim)
        stage.cluster.start_for_space(victim)


def move(stage, chance):
    """A fourth broker joins, gets replicas, and is decommissioned again."""
    cluster = stage.cluster
    cluster.clear(SPARE)
    cluster.start(SPARE)
    joined(cluster)
    held = cluster.topic(stage.topic)
    for partition in chance.sample(held, min(MOVES, len(held))):
        replicas = list(partition["replicas"])
        replicas[chance.randrange(len(replicas))] = SPARE
        listed = ",".join(map(str, replicas))
        cluster.patiently("a reassignment", "cluster", "reassign", stage.topic, "--partition", str(partition["partition"]), "--replicas", listed)
    yield f"replicas of {min(MOVES, len(held))} partitions to broker {SPARE}, and back"
    cluster.healthy(MOVED_WITHIN)
    moved = [each["partition"] for each in cluster.topic(stage.topic) if SPARE in each["replicas"]]
    if not moved:
        raise Violation(f"no partition has moved to broker {SPARE}")
    cluster.patiently("a decommission", "cluster", "decommission", str(SPARE), "--no-wait")
    emptied(cluster)
    cluster.stop(SPARE)
    cluster.patiently("striking off", "cluster", "unregister", str(SPARE))


def standing(cluster, broker):
    found = json.loads(cluster.patiently("cluster describe", "cluster", "describe", "--json").stdout)
    return next((each for each in found["brokers"] if each["id"] == broker), None)


def joined(cluster):
    wait(lambda: (standing(cluster, SPARE) or {}).get("state") == "active", HEALTHY_WITHIN, f"broker {SPARE} has not joined")


def emptied(cluster):
    wait(lambda: standing(cluster, SPARE)["replicas"] == 0, MOVED_WITHIN, f"broker {SPARE} still holds replicas")


def wait(condition, within, what):
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            raise Violation(f"{what} after {within:.0f} s")
        time.sleep(0.1)


# Each: what begins it, and for how many seconds it is on at most.
FAULTS = {
    "kill": (kill, 2.5), "pause": (pause, 3.0), "stop": (stop, 1.0), "kill-two": (kill_two, 1.0), "kill-all": (kill_all, 1.0),
    "roll": (roll, 0.5), "move": (move, 0.5), "cut": (cut, 4.0), "cut-one-way": (cut_one_way, 4.0), "isolate": (isolate, 4.0),
    "lossy": (lossy, 3.0), "slow": (slow, 3.0), "full-disk": (full_disk, 6.0),
}
NETWORK = ("cut", "cut-one-way", "isolate", "lossy", "slow")
DISK = ("full-disk",)
# What may be on while another begins and ends, and what may be that other. A broker is not killed twice.
OUTER, INNER = (*NETWORK, *DISK, "move"), ("kill", "pause", "stop", "kill-two")


class Stage:
    """What faults are done to."""

    def __init__(self, cluster, topic):
        self.cluster, self.network, self.disks, self.topic = cluster, cluster.network, cluster.disks, topic

    def play(self, kind, chance):
        """One round of a kind, as in `kill` or `cut+kill`. Returns what it was."""
        outer, _, inner = kind.partition("+")
        with self.on(outer, chance) as said:
            if inner:
                with self.on(inner, chance) as also:
                    said = f"{said}; {inner}, {also}"
        return said

    @contextlib.contextmanager
    def on(self, kind, chance):
        begin, longest = FAULTS[kind]
        # Drawn before: what a fault finds does not move the choices behind it.
        seconds, own = chance.uniform(0.2, longest), type(chance)(chance.random())
        with contextlib.contextmanager(begin)(self, own) as said:
            time.sleep(seconds / 2)
            yield said
            time.sleep(seconds / 2)


def possible(network, disks):
    """The kinds that this machine can do, alone and within one another."""
    kinds = [kind for kind in FAULTS if not (kind in NETWORK and network is None or kind in DISK and disks is None)]
    return kinds + [f"{outer}+{inner}" for outer in OUTER if outer in kinds for inner in INNER]


def leaves_two_coordinators(kind):
    """Whether a broker may go on for a while that does not know that others have taken over from it."""
    return not {*NETWORK, "pause"}.isdisjoint(kind.split("+"))


def plan(kinds, rounds, chance):
    """A kind for each round: every single one comes before one comes again; each third is one within another."""
    single, composed, dealt = [kind for kind in kinds if "+" not in kind], [kind for kind in kinds if "+" in kind], []
    decks = {False: [], True: []}
    for at in range(rounds):
        is_composed = bool(composed) and (not single or at % 3 == 2)
        deck = decks[is_composed]
        if not deck:
            deck.extend(composed if is_composed else single)
            chance.shuffle(deck)
        dealt.append(deck.pop())
    return dealt
