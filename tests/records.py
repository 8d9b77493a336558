"""Records of an import, read without a server: for tests/unit/importing."""

from __future__ import annotations

import io
import json

from celery_segment import messages
from celery_segment.importing.lines import lines_of
from celery_segment.importing.ndjson import NDJSON
from celery_segment.importing.reading import START, chunks
from celery_segment.importing.table import CSV

ONE_OF = "must be one of identify, track, page, screen, group, alias, not"
WHEN = "2025-03-01T07:00:00.123Z"
TRACK = {"type": "track", "userId": "u", "event": "E", "timestamp": WHEN}


def opened(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def ndjson(data: bytes, default_type=None):
    return NDJSON(lines_of(opened(data)), default_type)


def table(data, default_type="track", texts=()):
    data = data.encode() if isinstance(data, str) else data
    return CSV(lines_of(opened(data)), default_type, texts)


def chunks_of(records, after=START, encode=messages.encode):
    return chunks("default", records, encode, after)


def read(records):
    """Read all records; return the messages, and what was rejected."""
    taken, rejected = [], []
    for chunk in chunks_of(records):
        taken += [json.loads(data) for data in chunk.messages]
        rejected += chunk.rejected
    return taken, rejected


def one(records):
    """Return the one message that there is, without what is in every message."""
    taken, rejected = read(records)
    assert rejected == []
    (message,) = taken
    del message["context"]["library"]
    return {name: value for name, value in message.items() if value != {}}


def refusal(records):
    """Return the field and the reason of the one record that there is."""
    taken, rejected = read(records)
    assert taken == []
    (only,) = rejected
    return only.field, only.reason


def line(**fields) -> bytes:
    return json.dumps({**TRACK, **fields}).encode()
