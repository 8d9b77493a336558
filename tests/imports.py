"""Files to import, and what an import stored: for tests/integration/importing."""

from __future__ import annotations

import json
import threading

from support import WRITE_KEY, buffer_of

WHEN = "2025-03-01T07:00:00.123Z"
SOURCES = {"marketing": {"write_key": f"{WRITE_KEY}2"}, "off": {"enabled": False}}
BAD = (b"nonsense", b'{"type": "track", "event": "E", "timestamp": "%b"}' % WHEN.encode(), b"\xff")


def line(number: int, **fields) -> bytes:
    event = {"type": "track", "userId": f"u{number}", "event": "E", "timestamp": WHEN}
    return json.dumps({**event, "properties": {"n": number}, **fields}).encode()


def write(path, lines, bad_each=8, padding=0):
    """Write so many lines, one of so many bad."""
    with path.open("wb") as stream:
        for n in range(lines):
            more = {"context": {"padding": "x" * padding}} if padding else {}
            stream.write((BAD[n % len(BAD)] if n % bad_each == 7 else line(n, **more)) + b"\n")


def stored(app, source="default"):
    """Return all stored messages, in their order."""
    buffer = buffer_of(app, source)
    buffer.admin.mark()
    return [
        json.loads(data)
        for batch in buffer._server.execute("ZRANGE", f"{{segment:{source}}}:ready", 0, -1)
        for data in buffer.admin.messages(batch.decode())
    ]


def numbers(app):
    return [message["properties"]["n"] for message in stored(app)]


def rejects_of(path):
    return [json.loads(each) for each in path.read_bytes().splitlines()]


GOOD = [n for n in range(40) if n % 8 != 7]


class Drainer:
    """Delivers what is stored, as workers do; keeps the messages."""

    def __init__(self, buffer):
        self._buffer = buffer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drain)
        self.delivered = []
        self.most_bytes = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _drain(self):
        while not self._stop.wait(0.01):
            for batch in self._buffer.claim(1):
                held = self._buffer.begin(batch.id, "token")
                figures = self._buffer.admin.snapshot()
                self.most_bytes = max(
                    self.most_bytes,
                    figures.buffered.bytes + figures.ready.bytes + figures.inflight.bytes,
                )
                self.delivered += json.loads(b"[%b]" % held.body[:-1])
                self._buffer.ack(held)
