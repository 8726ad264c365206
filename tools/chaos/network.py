"""Brokers in network namespaces of their own, joined by a bridge, and the links between them: cut, lossy, slow.

Needs root, `ip`, `tc` and `nsenter`. A packet is dropped where it leaves the sender's namespace, by a classic BPF program of `tc`:
the sender is told nothing, as with a real cut. Clients are on the host, at the bridge's own address: they are node 0.
Names carry the process id of the run, so that two runs do not meet; `end` removes all of it.
"""

import os
import shutil
import subprocess

CLIENTS = 0
NETWORKS = 1 << 15
# Offsets into an Ethernet frame, and what `tc` makes of a classifier's answer.
PROTOCOL, SOURCE, DESTINATION, IPV4 = 12, 26, 30, 0x0800
PASS, DROP = 0xFFFFFFFF, 2
RANDOM = 0xFFFFF000 + 56
SLOW = ("rate", "3mbit", "burst", "32kb", "latency", "300ms")
TOOL_SECONDS = 20


class NetworkError(Exception):
    """The machine does not do what the network needs."""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")


def packed(address):
    first, second, third, fourth = (int(part) for part in address.split("."))
    return first << 24 | second << 16 | third << 8 | fourth


def program(field, addresses, loss):
    """Drops what has one of the addresses in that field, and that share of all else, as `tc` reads it."""
    code = []
    if addresses:
        # Whatever is no IPv4 (ARP) passes to the lottery: jumps count from the next instruction.
        code += [(40, 0, 0, PROTOCOL), (21, 0, 1 + len(addresses), IPV4), (32, 0, 0, field)]
    rest = [(32, 0, 0, RANDOM), (53, 0, 1, int((1.0 - loss) * 0xFFFFFFFF)), (6, 0, 0, DROP)] if loss else []
    end = rest + [(6, 0, 0, PASS), (6, 0, 0, DROP)]
    for at, address in enumerate(addresses):
        # The last instruction of all drops.
        code.append((21, len(addresses) - at - 1 + len(end) - 1, 0, packed(address)))
    code += end
    return f"{len(code)}," + ",".join(" ".join(map(str, line)) for line in code)


class Network:
    """A namespace for each broker. `blocked` and `lossy` say what is cut; `apply` makes it so."""

    def __init__(self, brokers):
        pid = os.getpid()
        number = pid % NETWORKS
        self.prefix = f"10.{128 + (number >> 8)}.{number & 0xFF}"
        self.bridge, self.brokers = f"mrb{pid}", brokers
        self.blocked, self.lossy, self.slow = set(), {}, set()
        self.made = False

    def begin(self):
        """Makes all of it; what cannot be made is an error, after what was made is removed again."""
        if os.geteuid() != 0:
            raise NetworkError("namespaces need root")
        missing = [tool for tool in ("ip", "tc", "nsenter") if shutil.which(tool) is None]
        if missing:
            raise NetworkError(f"there is no {', '.join(missing)}")
        try:
            self.make()
            # Whether packets can be dropped is known before the first round.
            self.block({(self.brokers[0], self.brokers[1])})
            self.lose(self.brokers[0], 0.5)
            self.slow_down(self.brokers[0])
        except (NetworkError, subprocess.TimeoutExpired) as error:
            self.end()
            raise NetworkError(str(error)) from error
        self.mend()

    def make(self):
        self.made = True
        run("ip", "link", "add", "name", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.address(CLIENTS)}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for broker in self.brokers:
            space, outer = self.space(broker), self.link(broker)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", outer, "master", self.bridge, "up")
            run("ip", "-n", space, "addr", "add", f"{self.address(broker)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("tc", "qdisc", "add", "dev", outer, "clsact")

    def end(self):
        """Removes what is there of it; a namespace goes when its last process does."""
        if not self.made:
            return
        self.made = False
        for command in [["ip", "netns", "del", self.space(broker)] for broker in self.brokers] + \
                       [["ip", "link", "del", self.link(broker)] for broker in self.brokers] + [["ip", "link", "del", self.bridge]]:
            subprocess.run(command, capture_output=True, timeout=TOOL_SECONDS)

    def address(self, node):
        return f"{self.prefix}.{node + 1}"

    def space(self, broker):
        return f"{self.bridge}-{broker}"

    def link(self, broker):
        return f"mrv{os.getpid()}-{broker}"

    def inside(self, broker):
        """What a command begins with that runs where this broker does."""
        return ["nsenter", f"--net=/run/netns/{self.space(broker)}"]

    def block(self, pairs):
        """Cuts the ways from one node to another, beside those that are cut."""
        self.blocked |= pairs
        self.apply()

    def unblock(self, pairs):
        self.blocked -= pairs
        self.apply()

    def lose(self, broker, share):
        """Of what this broker sends, so much is lost; nothing of it with 0."""
        self.lossy[broker] = share
        self.apply()

    def slow_down(self, broker):
        """What is sent to this broker takes a narrow way with a queue."""
        run("tc", "qdisc", "add", "dev", self.link(broker), "root", "tbf", *SLOW)
        self.slow.add(broker)

    def speed_up(self, broker):
        run("tc", "qdisc", "del", "dev", self.link(broker), "root")
        self.slow.discard(broker)

    def mend(self):
        """Every link is whole."""
        self.blocked, self.lossy = set(), {}
        self.apply()
        for broker in list(self.slow):
            self.speed_up(broker)

    def apply(self):
        for broker in self.brokers:
            to = sorted(self.address(end) for begin, end in self.blocked if begin == broker)
            self.filter(broker, "ingress", DESTINATION, to, self.lossy.get(broker, 0))
            cut = [self.address(CLIENTS)] if (CLIENTS, broker) in self.blocked else []
            self.filter(broker, "egress", SOURCE, cut, 0)

    def filter(self, broker, side, field, addresses, loss):
        place = ("dev", self.link(broker), side)
        subprocess.run(["tc", "filter", "del", *place], capture_output=True, timeout=TOOL_SECONDS)
        if addresses or loss:
            run("tc", "filter", "add", *place, "bpf", "da", "bytecode", program(field, addresses, loss))
