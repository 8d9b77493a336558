"""Stored events and dead letters, and tables read again: for tests/integration/cli."""

from __future__ import annotations

import re

from celery_segment import Analytics, track
from support import WRITE_KEY, buffer_of

SOURCES = {"marketing": {"write_key": f"{WRITE_KEY}2"}}


def store(app, *events, source="default"):
    with Analytics(source, app=app).batch():
        for event in events:
            track(user_id="u", event=event, source=source)


def bury(app, *events, reason="400 Bad Request", source="default"):
    """Store events as one batch that was given up; return its id."""
    buffer = buffer_of(app, source)
    store(app, *events, source=source)
    (batch,) = buffer.claim(1)
    buffer.bury(buffer.begin(batch.id, "token"), reason, answered=True)
    return batch.id


def cells(table):
    """Return a table's rows: the cells stand two spaces apart."""
    header, _, *rows = table.rstrip().splitlines()
    names = re.split(r" {2,}", header.strip())
    found = [re.split(r" {2,}", row.strip()) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in found]
