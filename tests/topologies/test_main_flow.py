"""The way of a message, and what operators do to it, with each kind of servers."""

from __future__ import annotations

import json

import pytest

import callbacktasks
from celery_segment import (
    Analytics,
    DeliveryFailed,
    alias,
    group,
    identify,
    page,
    screen,
    track,
)
from celery_segment.testing import EmbeddedRedis, Reply
from checks import findings, rendered
from commands import ok, run
from imports import line
from moving import stats
from operating import cells
from support import WRITE_KEY, wait_until

#: Names whose slots are far apart, so that a cluster has them on different servers.
SOURCES = {name: {"write_key": WRITE_KEY} for name in ("old", "new", "s0", "s1", "s2", "s3")}
FAST = {"segment_flush_interval": 0.3}


def bad(message):
    return message.get("event") == "bad"


def kinds_of_calls():
    yield identify.apply_async, ("u", {"plan": "pro"})
    yield track.apply_async, ("u", "E", {"n": 1})
    yield page.apply_async, ("u", "Docs", "Index")
    yield screen.apply_async, ("u", "Docs", "Index")
    yield group.apply_async, ("u", "g", {"plan": "pro"})
    yield alias.apply_async, ("before", "u")


def test_check_finds_all_well_and_names_the_servers(placed_app, place, workers):
    app = placed_app()
    workers.start_answering(app)
    track.delay("u", "E")
    found = findings(app, status=0)
    port = place.primary("{segment:default}").port
    assert f"127.0.0.1:{port}{place.kind} answers" in rendered(found["redis"])
    assert rendered(found["workers"]) == "ok 1 worker answers"
    assert rendered(found["buffer"]) == "ok the workers deliver from this Redis"
    assert found["default", "endpoint"]["state"] == "ok"


def test_each_kind_of_call_is_delivered_once_and_says_so(placed_app, server, workers, noted):
    workers.start(placed_app(**FAST))
    link = {"link": callbacktasks.delivered.s(), "ignore_result": False}
    plain = [call(arguments).id for call, arguments in kinds_of_calls()]
    told = [call(arguments, **link) for call, arguments in kinds_of_calls()]
    late = [call(arguments, countdown=1, **link) for call, arguments in kinds_of_calls()]
    assert [receipt.get(timeout=20) for receipt in told + late] == [r.id for r in told + late]
    assert Analytics().flush(10) == 0
    assert set(server.received) == {*plain, *(receipt.id for receipt in told + late)}
    assert server.duplicates == 0
    types = [message["type"] for message in server.messages]
    assert {kind: types.count(kind) for kind in types} == dict.fromkeys(
        ("identify", "track", "page", "screen", "group", "alias"), 3
    )
    wait_until(lambda: {*noted("delivered")} == {receipt.id for receipt in told + late})


def test_a_failing_endpoint_is_tried_again(placed_app, server, workers):
    workers.start(placed_app(**FAST))
    failures = [503, 429, 500]
    for status in failures:
        server.reply(Reply.status(status))
    with Analytics().batch():
        ids = {track.delay("u", "E").id for _ in range(100)}
    assert server.wait_for_messages(100, timeout=20)
    assert Analytics().flush(10) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0
    assert [request.status for request in server.requests][:3] == failures


def test_dead_letters_are_shown_replayed_and_purged(placed_app, server, workers, noted):
    app = placed_app(**FAST)
    workers.start(app)
    server.fail_messages(bad)
    both = {"link": callbacktasks.delivered.s(), "link_error": callbacktasks.failed.s()}
    with Analytics().batch():
        good = track.apply_async(("u", "good"), **both)
        first, second = (
            track.apply_async(("u", "bad"), ignore_result=False, **both) for _ in range(2)
        )
    with pytest.raises(DeliveryFailed, match="400 Bad Request"):
        first.get(timeout=20)
    wait_until(lambda: {*noted("failed")} == {first.id, second.id})
    wait_until(lambda: Analytics().stats().dead.messages == 2)
    (one, two) = cells(ok(app, "dead", "list"))
    assert all(letter["reason"].startswith("400 Bad Request") for letter in (one, two))
    (message,) = json.loads(ok(app, "dead", "show", one["batch"]))
    assert message["messageId"] in {first.id, second.id}
    server.restore()
    ok(app, "dead", "replay", one["batch"])
    assert server.wait_for_messages(2, timeout=20)
    ok(app, "dead", "purge", two["batch"], "--yes")
    assert ok(app, "dead", "list") == "default: no dead letters\n"
    assert good.id in server.received
    assert len({first.id, second.id} & {*server.received}) == 1
    assert Analytics().stats().purged == 1


def test_without_a_worker_an_import_is_delivered_and_counted(placed_app, server, tmp_path):
    app = placed_app()
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"".join(line(n) + b"\n" for n in range(300)))
    ok(app, "import", str(file))
    assert "300" in ok(app, "status")
    metrics = ok(app, "metrics", "--once")
    assert 'segment_stored_messages{source="default",state="buffered"} 300' in metrics
    assert failed_to_flush(app) == 300
    assert ok(app, "deliver") == "default: nothing remains\n"
    assert sum(server.received.values()) == len(server.received) == 300
    assert ok(app, "flush") == "default: nothing remains\n"
    assert Analytics().stats().delivered.messages == 300


def test_calls_spill_while_redis_does_not_answer(placed_app, place, server, workers, tmp_path):
    app = placed_app(
        segment_on_unavailable="spill",
        segment_spill_path=str(tmp_path / "spill"),
        segment_redis_timeout=0.5,
    )
    workers.start(app)
    ids = {track.delay("u", "before").id}
    primary = place.primary("{segment:default}")
    primary.pause()
    try:
        ids |= {track.delay("u", "meanwhile").id for _ in range(100)}
    finally:
        primary.resume()
    ids.add(track.delay("u", "after").id)
    assert server.wait_for_messages(102, timeout=20)
    wait_until(lambda: {*server.received} == ids)
    assert Analytics().flush(10) == 0


def test_a_person_is_forgotten(placed_app, server):
    app = placed_app()
    Analytics().pause()
    with Analytics().batch():
        for n in range(50):
            track.delay(f"u{n % 2}", "E")
    ok(app, "forget", "--user-id", "u1", "--yes")
    ok(app, "resume")
    assert ok(app, "deliver") == "default: nothing remains\n"
    assert {message["userId"] for message in server.messages} == {"u0"}
    assert len(server.received) == 25


def test_sources_are_renamed(placed_app, server):
    app = placed_app(segment_sources=SOURCES)
    ids = set()
    for name in SOURCES:
        with Analytics(name).batch():
            ids |= {Analytics(name).track.delay("u", "E").id for _ in range(10)}
    for old in ("old", "s0", "s1", "s2", "s3"):
        ok(app, "rename", old, "new", "--yes")
        assert stats(app, old).waiting == 0
    assert stats(app, "new").waiting == 60
    ok(app, "deliver", "--source", "new")
    assert set(server.received) == ids
    assert server.duplicates == 0


def test_a_buffer_is_moved_there_and_away(placed_app, make_app, place, server):
    with EmbeddedRedis(appendonly=False) as other:
        plain = {"broker_url": other.url, "segment_redis_url": other.url}
        make_app(**plain)
        ids = {track.delay("u", "E").id for _ in range(10)}
        app = placed_app()
        ok(app, "move", "--from", other.url, "--yes")
        ids |= {track.delay("u", "E").id for _ in range(10)}
        assert stats(app, "default").waiting == 20
        back = make_app(**plain)
        ok(back, "move", "--from", place.url, "--yes")
        assert stats(app, "default").waiting == 0
        assert ok(back, "deliver") == "default: nothing remains\n"
    assert set(server.received) == ids
    assert server.duplicates == 0


def failed_to_flush(app):
    """Return how many messages `segment flush` says remain, which nobody delivers."""
    said = json.loads(run(app, "flush", "--timeout", "0.1", "--json").stdout)
    return said["default"]["remaining"]
