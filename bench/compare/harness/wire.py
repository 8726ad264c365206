"""As much of the Kafka protocol as it takes to see that a broker answers and to make a topic."""

import socket
import struct
import time

API_VERSIONS, CREATE_TOPICS = 18, 19

# CreateTopics in the last version before the flexible ones, which both brokers serve.
CREATE_TOPICS_VERSION = 4

ANSWER_SECONDS = 10


class Refused(Exception):
    """The broker answered with an error."""


def _request(address, key, version, body):
    header = struct.pack(">hhih", key, version, 1, -1)
    with socket.create_connection(address, timeout=ANSWER_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        (length,) = struct.unpack(">i", _exactly(connection, 4))
        return _exactly(connection, length)[4:]


def _exactly(connection, length):
    found = b""
    while len(found) < length:
        piece = connection.recv(length - len(found))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        found += piece
    return found


def answers(address):
    """Whether a broker answers ApiVersions at the address."""
    try:
        answer = _request(address, API_VERSIONS, 0, b"")
    except OSError:
        return False
    return struct.unpack(">h", answer[:2])[0] == 0


def create_topic(address, name, partitions, deadline_seconds=30):
    """Makes a topic. A broker that has just started may not be able to yet."""
    encoded = name.encode()
    topic = struct.pack(f">h{len(encoded)}sihii", len(encoded), encoded, partitions, 1, 0, 0)
    body = struct.pack(">i", 1) + topic + struct.pack(">i?", 10000, False)
    deadline = time.monotonic() + deadline_seconds
    while True:
        try:
            answer = _request(address, CREATE_TOPICS, CREATE_TOPICS_VERSION, body)
            code = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(encoded))[0]
        except OSError:
            code = None
        if code == 0:
            return
        if time.monotonic() > deadline:
            raise Refused(f"topic {name} was not made: error {code}")
        time.sleep(0.05)
