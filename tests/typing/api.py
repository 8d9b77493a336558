"""The public API as its users' type checkers see it. Checked by mypy, pyright and ty, never run.

Every ``type: ignore``, with mypy's code and with ty's, is a mistake that must be found: each
of the three fails on an ignore that it does not need. Two lines are marked for one checker
alone: that is a false alarm, to be removed together with its cause.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from flask import Flask

import celery_segment
from celery_segment import (
    Amount,
    Analytics,
    BufferFull,
    BufferUnavailable,
    ConfigurationError,
    DeadGroup,
    DeadLetter,
    DeadLetterPage,
    Forgotten,
    Gate,
    Latency,
    MessageTooLarge,
    SegmentBufferError,
    SegmentError,
    Snapshot,
    ValidationError,
    alias,
    context,
    group,
    identify,
    page,
    screen,
    track,
)
from celery_segment import analytics as drop_in
from celery_segment.contrib.asgi import SegmentMiddleware
from celery_segment.contrib.flask import Segment
from celery_segment.testing import Outbox
from celery_segment.visitor import Visitor, acting

NOW = datetime.now(timezone.utc)


def use(*_: object) -> None:
    """Take values that the type checker has looked at."""


def calls() -> None:
    properties: Mapping[str, Decimal] = {"revenue": Decimal("39.95")}
    track.delay(user_id="019mr8mf4r", event="Item Purchased", properties=properties)
    track.delay("019mr8mf4r", "Item Purchased", {"revenue": 39.95}, source="marketing")
    track.delay(anonymous_id=UUID(int=1), event="E", timestamp=NOW, message_id="m")
    identify.delay("u", {"plan": "pro"}, context={"ip": "1.2.3.4"}, integrations={"All": False})
    group.delay("u", "g", {"size": 5}, timestamp="2026-11-23T07:00:00.123Z")
    alias.delay("previous", "u")
    page.delay("u", "Docs", "Node", {"url": "/docs"})
    screen.delay("u", "Game", "Start")
    track.delay_on_commit(user_id="u", event="E")
    track.apply_async((), {"user_id": "u", "event": "E"}, countdown=5)
    track.s(user_id="u", event="E").apply_async()


async def calls_on_a_loop() -> None:
    result = await track.adelay(user_id="019mr8mf4r", event="Item Purchased")
    use(result.id)
    marketing = Analytics("marketing")
    async with marketing.abatch():
        await marketing.track.adelay("019mr8mf4r", "Item Purchased", {"revenue": 39.95})
    remaining: int = await marketing.aflush(timeout=5)
    use(remaining)
    await track.adelay(user_id="u", evnet="E")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    await marketing.track.adelay("u", 5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


def mistakes_in_calls() -> None:
    track.delay(user_id="u", evnet="E")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    track.delay(user_id="u", event=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay(user_id="u", event="E", properties=["x"])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay(user_id="u", event="E", timestamp=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay(user_id="u", event="E", traits={})  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    track.delay(user_id="u", event="E", source=None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay_on_commit(user_id="u", evnet="E")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    identify.delay("u", event="E")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    page.delay("u", "Docs", 5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    alias.delay("previous", "u", anonymous_id="a")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    group.delay("u", "g", {}, {}, None, None, {}, "m", "too many")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]


def results() -> None:
    result = track.delay(user_id="u", event="E")
    message_id: str = result.id
    use(message_id, result.ignored)


def one_source() -> None:
    marketing = Analytics("marketing")
    name: str = marketing.source
    result = marketing.track.delay(user_id="u", event="E")
    use(name, result.id)
    with marketing.batch():
        marketing.identify.delay("u", {"plan": "pro"})
        marketing.page.delay("u", "Docs", "Node")
    remaining: int = marketing.flush(timeout=5)
    paused: bool = marketing.pause()
    wait: float = marketing.resume()
    use(remaining, paused, wait)


def mistakes_with_one_source() -> None:
    marketing = Analytics("marketing")
    Analytics(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    Analytics("marketing", timeout=5)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    marketing.flush("5")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    remaining: str = marketing.flush()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    marketing.trak.delay()  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    with marketing.batch() as batch:
        use(batch.messages)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    use(remaining)


def figures() -> None:
    stats: Snapshot = Analytics().stats()
    counts: list[int] = [stats.accepted, stats.waiting, stats.purged, stats.retries]
    amounts: list[Amount] = [stats.buffered, stats.ready, stats.inflight, stats.delivered]
    counts += [stats.dead.messages, stats.dead.bytes, stats.dead.batches]
    counts += [stats.buried, stats.uncalled_batches, stats.attempts["200"], stats.dropped["full"]]
    age: float = stats.oldest
    last: float | None = stats.last_delivered
    latency: Latency = stats.latency
    p99: float | None = latency.quantile(0.99)
    counts += [latency.count, *latency.counts]
    gate: Gate = stats.gate
    closed: float | None = gate.seconds
    why: tuple[str, str, bool] = (gate.state, gate.reason, gate.refused)
    stats.accepted = 5  # type: ignore[misc]  # ty: ignore[invalid-assignment]
    wrong: str = stats.delivered  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    use(counts, amounts, age, last, p99, gate, closed, why, wrong)
    use(stats.redy)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]


def forget() -> None:
    found: Forgotten = Analytics().forget(user_id="u", anonymous_id=["a", "b"], dry_run=True)
    counts: list[int] = [found.deleted, found.under_way]
    Analytics().forget("u")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
    use(counts, found.is_complete, found.repeat_in)


def dead_letters() -> None:
    letters = Analytics().dead_letters
    for letter in letters:
        one: DeadLetter = letter
        parts: tuple[str, int, int, float, str] = (
            one.id,
            one.messages,
            one.bytes,
            one.buried,
            one.reason,
        )
        events: list[str] = [str(message["event"]) for message in letters.messages(one.id)]
        use(parts, events)
    replayed: int = letters.replay(["1", "2"]) + letters.replay()
    purged: int = letters.purge()
    letters.replay([1])  # type: ignore[list-item]  # ty: ignore[invalid-argument-type]
    wrong: str = letters.purge()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
    use(replayed, purged, wrong)
    since = NOW - timedelta(hours=2)
    old: list[str] = [each.id for each in letters.select(reason="400", since=since, until=NOW)]
    chosen: int = letters.replay(since=since) + letters.purge(reason="400", until=5.0)
    counts: tuple[int, int] = letters.export(Path("dead.ndjson"), since=since, purge=True)
    exported: int = letters.export(sys.stdout.buffer, reason="400").messages
    raw: list[bytes] = letters.raw("1")
    use(old, chosen, counts, exported, raw)
    most: DeadGroup = letters.groups()[0]
    about: tuple[str, int, float] = (most.reason, most.messages, most.oldest)
    letters.purge(group=most.id, since=since)
    newest: DeadLetterPage = letters.page(limit=10, group=most.id)
    shown: list[str] = [each.kinds for each in letters.page(newest.next).letters]
    use(about, shown)
    letters.select("400")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
    letters.select(since="2h")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    letters.export(sys.stdout)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


def errors() -> None:
    try:
        track.delay(user_id="u", event="E")
    except MessageTooLarge as error:
        sizes: tuple[int, int] = (error.size, error.limit)
        largest: str = error.largest
        use(sizes, largest, error.field)
    except ValidationError as error:
        field: str = error.field
        problem: str = error.problem
        use(field, problem, error.size)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
    except (BufferFull, BufferUnavailable, ConfigurationError) as error:
        text: str = str(error)
        use(text)

    some: list[type[SegmentError]] = [ValidationError, MessageTooLarge, ConfigurationError]
    buffers: list[type[SegmentBufferError]] = [BufferFull, BufferUnavailable]
    values: list[type[ValueError]] = [ValidationError, MessageTooLarge]
    wrong: list[type[ValueError]] = [ConfigurationError]  # type: ignore[list-item]  # ty: ignore[invalid-assignment]
    use(some, buffers, values, wrong)


def version() -> str:
    return celery_segment.__version__


def as_segments_library() -> None:
    drop_in.write_key = "KEY"
    drop_in.on_error = use
    drop_in.timeout = 1.5
    stored, message = drop_in.track("u", "E", {"n": 1}, {"ip": "1.2.3.4"}, NOW, "anonymous")
    use(stored is True, message["messageId"])
    remaining: int = drop_in.flush()
    client = drop_in.Client("KEY", "https://api.segment.io", max_queue_size=5, source="marketing")
    result: tuple[bool, dict[str, object]] = client.alias("previous", "u")
    use(remaining, result, client.flush(timeout=5), client.queue.empty())
    drop_in.shutdown()


def mistakes_as_segments_library() -> None:
    drop_in.track("u", evnt="E")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    drop_in.Client("KEY").identify("u", 5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    drop_in.Client("KEY", writekey="KEY")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]


def in_tests(segment_outbox: Outbox) -> None:
    message = segment_outbox.assert_tracked("E", user_id=5, properties={"a": Decimal(1)})
    use(message["userId"], message.source, len(segment_outbox), segment_outbox[0])
    use([m["event"] for m in segment_outbox.tracked("E")])
    with Outbox() as outbox:
        outbox.assert_nothing()
    segment_outbox.assert_tracked()  # type: ignore[call-arg]  # ty: ignore[missing-argument]


def in_requests(visitor: Visitor, shop: Flask) -> None:
    Segment(shop, user_id=lambda: 5)
    SegmentMiddleware(use_asgi, user_id=lambda scope: scope["user"])
    with acting(visitor):
        track.delay(event="E")


def in_blocks() -> None:
    with context(user_id=5, anonymous_id="a", context={"ip": "192.0.2.1"}, integrations=None):
        track.delay(event="E")
    with context(user_id=[]):  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
        pass
    context("u")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]


async def use_asgi(*_: object) -> None:
    """Be an ASGI application."""
