"""Requests to SegmentServer, by an HTTP client and byte by byte: for its tests."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import contextmanager

PATIENCE = 5.0
SENT_AT = "2026-11-23T07:00:09.456Z"


def encode(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def message(name, **fields):
    return {"type": "track", "messageId": str(name), "userId": "u", "event": "E", **fields}


def message_of(size, name="m"):
    """A message of exactly this many bytes of JSON."""
    return message(name, pad="x" * (size - len(encode(message(name, pad="")))))


def raw_request(body, *, key="key", method="POST", path="/v1/batch"):
    login = base64.b64encode(f"{key}:".encode()).decode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {login}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def raw_batch(*names):
    return raw_request(encode({"batch": [message(n) for n in names], "sentAt": SENT_AT}))


@contextmanager
def connect(server):
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        yield connection


def read_until_closed(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
