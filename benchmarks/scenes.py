"""Have Redis run the scripts in the states where they have most to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.watch import Watch
from celery_segment import messages
from celery_segment.buffer import BUCKETS, Attachments, Buffer, Grouped, bounds, kinds_of
from celery_segment.buffer.history import SECONDS
from celery_segment.buffer.parts import parts_of
from celery_segment.buffer.scripts import script
from celery_segment.buffer.types import Lease
from celery_segment.calls import api
from celery_segment.calls.attachments import attachments_of
from celery_segment.operations.dead_letters import SETTLED
from celery_segment.operations.dead_pages import PAGE
from celery_segment.runtime import runtime_of
from celery_segment.trust import Trust

__all__ = ["SETTINGS", "backlog", "buffer_of", "callbacks", "dead_letters", "forgotten"]

#: The sources: each has the settings that let its state be reached.
SETTINGS = {
    "segment_max_dead_bytes": 10**9,
    "segment_sources": {
        "wide": {"write_key": "key", "max_inflight": 1_000},
        "dead": {"write_key": "key", "max_inflight": 1_000, "max_batch_messages": 1},
        "linked": {"write_key": "key"},
        "forgotten": {"write_key": "key"},
        "hooked": {
            "write_key": "key",
            "on_delivered": "benchmarks.scenes.nothing",
            "on_failed": "benchmarks.scenes.nothing",
        },
    },
}
#: A message of the least size, so that 2,500 fit in a batch.
SMALL = b'{"type":"track","userId":"u","event":"e","messageId":"12345678"}'
#: Seconds of a lease, so short that its end can be waited for.
LEASE = 0.05
BREAKER = (10**6, 1.0, 1.0)
TOKEN = "a-token"  # noqa: S105 - a holder's


def nothing(_: Any) -> None:
    """Stand for a hook."""


def buffer_of(app: Any, source: str) -> Buffer:
    """Return a source's buffer with a lease that is shorter than the settings allow."""
    runtime = runtime_of(app)
    return Buffer(runtime.topology, replace(runtime.settings.source(source), lease=LEASE))


def allow_concurrency(buffer: Buffer) -> None:
    """Allow as many concurrent requests as the source's ceiling."""
    buffer._server.execute("HSET", f"{buffer._key}:state", "limit", buffer.source.max_inflight)


def message() -> bytes:
    return messages.encode(api.track.build(USER, EVENT, PROPERTIES)[1])


def backlog(watch: Watch, buffer: Buffer, number: int) -> None:
    """Store ``number`` messages, and do all that calls and workers do beside them."""
    label = f"{number:,} waiting"
    part = [message() for _ in range(500)]
    with watch.unwatched():
        fill_history(buffer)
        for _ in range(number // 500):
            buffer.append_many(part)
    for _ in range(10):
        watch(label, buffer.append, part[0])
        watch(label, buffer.append_many, part)
        for batch in ("", 1):
            arguments = (message() + b",", 10**9, batch)
            watch(label, buffer._server.run, script("stored"), buffer._key, *arguments)
        watch(label, buffer.due, 0.25)
        watch(label, buffer.admin.snapshot)
        watch(label, buffer.admin.history, 24)
        watch(label, buffer.admin.pause)
        watch(label, buffer.admin.resume)
        watch(label, buffer.admin.remaining, watch(label, buffer.admin.mark))
        for batch in watch(label, buffer.compressible)[:5]:
            watch(label, buffer.compress, batch)
    for _ in range(3):
        settle_each_way(watch, label, buffer)


def fill_history(buffer: Buffer) -> None:
    """Have each period of the last day hold all that is counted."""
    totals = ("accepted", "delivered", "buried", "latency_sum")
    attempts = [f"attempts:{status}" for status in (*range(500, 512), *range(400, 406), "network")]
    buckets = [f"latency:{number}" for number in range(1, len(BUCKETS) + 1)]
    fields = [each for name in (*totals, *attempts, *buckets) for each in (name, 10**6)]
    for period in buffer.admin.history(24):
        key = f"{buffer._key}:history:{period.start // SECONDS:.0f}"
        buffer._server.execute("HSET", key, *fields)


def settle_each_way(watch: Watch, label: str, buffer: Buffer) -> None:
    """Claim what may be in flight, and settle it in turn in each way."""
    for n, lease in enumerate(leases(watch, label, buffer, buffer.source.max_inflight)):
        if n % 4 == 0:
            watch(label, buffer.ack, lease, "200")
        elif n % 4 == 1:
            watch(label, buffer.split, lease, "413")
        elif n % 4 == 2:
            watch(label, buffer.bury, lease, "HTTP 400", "invalid", "400", answered=True)
        else:
            watch(label, buffer.retry, lease, "failure", 0.1, "HTTP 503", "503", breaker=BREAKER)
    for letter in watch(label, buffer.admin.dead_letters, limit=PAGE)[:4]:
        watch(label, buffer.admin.replay, [letter.id])
    time.sleep(LEASE + 0.02)
    watch(label, buffer.due, 0.25)
    watch(label, buffer.reap)
    for batch in watch(label, buffer.claim, 100):
        lease = watch(label, buffer.begin, batch.id, TOKEN)
        if isinstance(lease, Lease):
            watch(label, buffer.ack, lease, "200")


def leases(watch: Watch, label: str, buffer: Buffer, limit: int) -> Iterator[Lease]:
    """Claim up to ``limit`` batches, and begin each when it is asked for."""
    allow_concurrency(buffer)
    for batch in watch(label, buffer.claim, limit):
        lease = watch(label, buffer.begin, batch.id, TOKEN)
        assert isinstance(lease, Lease)
        yield lease


def dead_letters(watch: Watch, buffer: Buffer, number: int) -> None:
    """Bury ``number`` batches of one message, and do all that an operator does with them."""
    label = f"{number:,} dead letters"
    one = message()
    with watch.unwatched():
        bury(buffer, one, number)
    for _ in range(5):
        watch(label, buffer.append_many, [one] * PAGE)
        for lease in leases(watch, label, buffer, PAGE):
            about: Any = {"answered": True, "grouped": grouped(lease)}
            watch(label, buffer.bury, lease, "HTTP 400", "invalid", "400", **about)
        watch(label, buffer.admin.snapshot)
        watch(label, buffer.admin.dead_groups)
        page = watch(label, buffer.admin.dead_letters, limit=PAGE)
        following = watch(label, buffer.admin.dead_letters, page[-1], limit=PAGE)
        watch(label, buffer.admin.purge, [letter.id for letter in page][:SETTLED])
        watch(label, buffer.admin.replay, [letter.id for letter in following][:SETTLED])
        watch(label, buffer.due, 0.25)
        for lease in leases(watch, label, buffer, PAGE):
            watch(label, buffer.ack, lease, "200")
    page_through(watch, label, buffer)


def bury(buffer: Buffer, one: bytes, number: int) -> None:
    """Make dead letters of one message each, until there are ``number``."""
    while (dead := buffer.admin.snapshot().dead.batches) < number:
        buffer.append_many([one] * min(500, number - dead))
        allow_concurrency(buffer)
        for batch in buffer.claim(500):
            lease = buffer.begin(batch.id, TOKEN)
            assert isinstance(lease, Lease)
            about: Any = {"answered": True, "grouped": grouped(lease)}
            buffer.bury(lease, "HTTP 400", "invalid", "400", **about)


def grouped(lease: Lease) -> Grouped:
    """Return one of more groups than are told apart for a batch that is buried."""
    return Grouped(f"HTTP {int(lease.id) % (bounds.MOST_GROUPS + 1)}", kinds_of(lease.body))


def page_through(watch: Watch, label: str, buffer: Buffer) -> None:
    """List dead letters that were buried in the same millisecond, or nearly so."""
    letter = None
    for _ in range(20):
        page = watch(label, buffer.admin.dead_letters, letter, limit=PAGE)
        letter = page[-1]


def callbacks(watch: Watch, buffer: Buffer, number: int, trust: Trust) -> None:
    """Fill batches of ``number`` messages, each with a callback, and settle them in each way."""
    label = f"{number:,} callbacks"
    attached = attached_by(trust)
    ways = ("ack", "split", "bury", "uncalled")
    for way in ways:
        fill(watch, label, buffer, number, attached)
        for lease in leases(watch, label, buffer, 10):
            settle(watch, label, buffer, lease, way)
        time.sleep(LEASE + 0.02)
        for settled in watch(label, lambda: list(buffer.uncalled())):
            watch(label, buffer.called, settled)
    for letter in buffer.admin.dead_letters():
        watch(label, buffer.admin.replay, [letter.id])
    for lease in leases(watch, label, buffer, 10):
        watch(label, buffer.ack, lease, "200")


def attached_by(trust: Trust) -> Attachments:
    """Return what is stored with a message: a callback and a trace context."""
    link = {"task": "shop.tasks.delivered", "args": ["019mr8mf4r"], "kwargs": {}, "options": {}}
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = attachments_of("a-task", "a-message", trace, [link], [], receipt=False, trust=trust)
    assert found is not None
    return found


def forgotten(watch: Watch, buffer: Buffer, number: int, trust: Trust) -> None:
    """Delete one, half and all of the messages of a batch at its limits."""
    label = f"{number:,} messages of 180 bytes"
    people = [f"u{n:05}" for n in range(number)]
    padding = "x" * (180 - len(SMALL))
    messages = [SMALL.replace(b'"u"', f'"{who}{padding}"'.encode()) for who in people]
    attached = attached_by(trust)
    for every in (number, 2, 1):
        theirs = {message for n, message in enumerate(messages) if n % every == 0}
        with watch.unwatched():
            # As many of the first messages have a callback as a batch may keep.
            buffer.append_many(messages, dict.fromkeys(range(250), attached))
            buffer.admin.mark()
        for batch in buffer.admin.batches():
            watch(label, buffer.admin.place, batch)
            watch(label, buffer.admin.forget, batch, theirs.__contains__, "forgotten")


def fill(watch: Watch, label: str, buffer: Buffer, number: int, attached: Attachments) -> None:
    """Store messages with a callback each, and seal their batch."""
    for part in parts_of([SMALL] * number, number):
        watch(label, buffer.append_part, part, dict.fromkeys(range(len(part)), attached))
    watch(label, buffer.admin.mark)


def settle(watch: Watch, label: str, buffer: Buffer, lease: Lease, way: str) -> None:
    """Settle a batch in one way."""
    if way == "split":
        watch(label, buffer.split, lease, "413")
        for half in leases(watch, label, buffer, 10):
            settle(watch, label, buffer, half, "ack")
    elif way == "bury":
        watch(label, buffer.bury, lease, "HTTP 400", "invalid", "400", answered=True)
    else:
        settled = watch(label, buffer.ack, lease, "200")
        if settled is not None and way == "ack":
            watch(label, buffer.called, settled)
