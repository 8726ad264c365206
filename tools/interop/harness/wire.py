"""The little of the Kafka protocol that the harness itself speaks: making a topic, and looking at batches as stored.

Clients that cannot make topics (kcat) get theirs from here; and what a client says it compressed is checked against
the attributes of the batches that the broker hands out.
"""

import socket
import struct

FETCH, CREATE_TOPICS = 1, 19
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")


def _text(value):
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def _ask(address, api, version, body):
    host, port = address.rsplit(":", 1)
    request = struct.pack(">hhi", api, version, 7) + _text("millrace-interop") + body
    with socket.create_connection((host, int(port)), timeout=15) as link:
        link.sendall(struct.pack(">i", len(request)) + request)
        reader = link.makefile("rb")
        length = struct.unpack(">i", reader.read(4))[0]
        return reader.read(length)[4:]


def create_topic(address, name, partitions=1, configs=None):
    """Makes a topic (CreateTopics v4). Raises with the broker's error code."""
    configs = configs or {}
    body = struct.pack(">i", 1) + _text(name) + struct.pack(">ihi", partitions, 1, 0)
    body += struct.pack(">i", len(configs)) + b"".join(_text(k) + _text(str(v)) for k, v in configs.items())
    body += struct.pack(">ib", 15000, 0)
    answer = _ask(address, CREATE_TOPICS, 4, body)
    # throttle, count, name, error code, error message
    at = 8
    at += 2 + struct.unpack_from(">h", answer, at)[0]
    code = struct.unpack_from(">h", answer, at)[0]
    if code:
        raise RuntimeError(f"the broker answered the making of topic {name} with error code {code}")


def codecs_of(address, topic, partition=0):
    """The set of codecs of the batches from offset 0 on (Fetch v4), and how many records they hold."""
    body = struct.pack(">iiiib", -1, 1000, 1, 8 << 20, 0)
    body += struct.pack(">i", 1) + _text(topic) + struct.pack(">iiqi", 1, partition, 0, 8 << 20)
    answer = _ask(address, FETCH, 4, body)
    at = 8 + 2 + struct.unpack_from(">h", answer, 8)[0] + 4
    _, code, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    if code:
        raise RuntimeError(f"the broker answered a fetch of topic {topic} with error code {code}")
    at += 26 + max(aborted, 0) * 16
    size = struct.unpack_from(">i", answer, at)[0]
    batches = answer[at + 4 : at + 4 + size]
    codecs, records, at = set(), 0, 0
    while at + 61 <= len(batches):
        length = struct.unpack_from(">i", batches, at + 8)[0]
        attributes = struct.unpack_from(">h", batches, at + 21)[0]
        codecs.add(CODEC_NAMES[attributes & 7])
        records += struct.unpack_from(">i", batches, at + 57)[0]
        at += 12 + length
    return codecs, records
