"""A TCP proxy before the broker, with doors that can be slammed.

Clients learn the broker's address from its answers and would go around a proxy. So each door replaces, in the answers
it passes on, the broker's host and port by its own: both have the same length, so nothing else of the bytes changes.

A door in the mode `cut` ends connections in the middle of produce requests, in the three ways that a network can:
the request is lost, half of it arrives, or it arrives and the answer is lost. It does so at every third request, a
fixed number of times. A producer that retries well must neither lose nor double a record.

Controlled by JSON lines over TCP, one a connection: {"do": "open", "mode": "plain" | "cut"} -> {"address"},
{"do": "sever", "address"}, {"do": "count", "address"} -> {"cuts"}.
"""

import json
import socket
import struct
import threading

PRODUCE = 0
CUTS = 6
CUT_EVERY = 3
WAYS = ("answer lost", "request lost", "half of the request lost")


class Door:
    def __init__(self, broker, mode, port=0):
        self.broker, self.mode = broker, mode
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.links = set()
        self.open = True
        self.cuts = self.produced = 0
        host = broker[0].encode()
        self.theirs = host + struct.pack(">i", broker[1])
        self.ours = host + struct.pack(">i", self.port)
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self):
        return f"{self.broker[0]}:{self.port}"

    def sever(self):
        with self.lock:
            self.open = False
            links, self.links = self.links, set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in links:
            link.end()

    def way_to_cut(self):
        """Called for each produce request; says whether and how this one is cut."""
        with self.lock:
            self.produced += 1
            if self.mode != "cut" or self.cuts >= CUTS or self.produced % CUT_EVERY:
                return None
            self.cuts += 1
            return WAYS[(self.cuts - 1) % len(WAYS)]

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                link = Link(self, client)
            except OSError:
                client.close()
                continue
            with self.lock:
                if self.open:
                    self.links.add(link)
                    link.start()
                    continue
            link.end()


class Link:
    """One connection through a door."""

    def __init__(self, door, client):
        self.door, self.client = door, client
        self.server = socket.create_connection(door.broker, timeout=10)
        self.server.settimeout(None)
        for side in (self.client, self.server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The correlation id whose answer is never passed on.
        self.withheld = None

    def start(self):
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._answers, daemon=True).start()

    def end(self):
        for side in (self.client, self.server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _requests(self):
        try:
            for frame in frames(self.client):
                api, _, correlation = struct.unpack_from(">hhi", frame, 4)
                way = self.door.way_to_cut() if api == PRODUCE else None
                if way == "request lost":
                    return
                if way == "half of the request lost":
                    self.server.sendall(frame[: len(frame) // 2])
                    return
                if way == "answer lost":
                    self.withheld = correlation
                self.server.sendall(frame)
        except OSError:
            pass
        finally:
            self.end()

    def _answers(self):
        try:
            for frame in frames(self.server):
                if struct.unpack_from(">i", frame, 4)[0] == self.withheld:
                    return
                self.client.sendall(frame.replace(self.door.theirs, self.door.ours))
        except OSError:
            pass
        finally:
            self.end()
            self.client.close()
            self.server.close()
            with self.door.lock:
                self.door.links.discard(self)


def frames(side):
    """The frames that arrive, each with its length in front."""
    reader = side.makefile("rb", buffering=1 << 16)
    while True:
        length = reader.read(4)
        if len(length) < 4:
            return
        body = reader.read(struct.unpack(">i", length)[0])
        if len(body) < 8:
            return
        yield length + body


class ProxyServer:
    """The doors of one run, and the socket that opens and slams them."""

    def __init__(self, broker):
        self.broker = broker
        self.doors = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.control = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            link, _ = self.listener.accept()
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link):
        with link:
            link.settimeout(10)
            request = json.loads(link.makefile().readline())
            if request["do"] == "open":
                door = Door(self.broker, request["mode"])
                self.doors[door.address()] = door
                answer = {"address": door.address()}
            else:
                door = self.doors[request["address"]]
                if request["do"] == "sever":
                    door.sever()
                answer = {"cuts": door.cuts}
            link.sendall(json.dumps(answer).encode() + b"\n")
