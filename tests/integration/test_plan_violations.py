"""Violations of a tracking plan: how they are counted, by event and reason."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from celery_segment import BufferFull, ValidationError, track
from celery_segment.buffer import OTHERS, Violations
from celery_segment.operations.admin import admin_of
from celery_segment.producer import violation_events
from celery_segment.producer import violations as pending
from celery_segment.runtime import runtime_of
from commands import failed, ok
from support import WRITE_KEY, buffer_of, free_port, stored, wait_until

PLAN = Path(__file__).parents[1] / "plans" / "shapes.json"
BAD = {"call number": "ann@example.com"}
PATTERN = Violations("track", "Own Handler", "properties.call number", "pattern")
UNPLANNED = Violations("track", "Nobody's", "event", "unplanned")
#: As many kinds as Redis tells apart.
MOST = 300


@pytest.fixture
def planned(make_app):
    return make_app(
        segment_tracking_plan=str(PLAN),
        segment_sources={
            name: {"on_violation": name, "on_unplanned": name, "write_key": WRITE_KEY}
            for name in ("allow", "log", "raise", "quarantine")
        },
    )


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(pending, "PERIOD", 0.0)


def counted(app, source="default"):
    return admin_of(runtime_of(app), source).violations()


def _scripts(redis):
    """Return how many script calls the server has had."""
    return redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def violate(source, event="Own Handler"):
    try:
        track.delay("u", event, BAD, source=source)
    except ValidationError:
        assert source == "raise"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("source", ["allow", "log", "raise", "quarantine"])
def test_what_violates_a_plan_is_counted_by_event_and_reason(planned, source):
    track.delay("u", "Own Handler", {"call number": "Folio 3"}, source=source)
    assert counted(planned, source) == []
    for _ in range(3):
        violate(source)
    violate(source, "Nobody's")
    expected = [PATTERN._replace(messages=3), UNPLANNED]
    # What need not be planned violates nothing.
    assert counted(planned, source) == expected[: 1 if source == "allow" else 2]
    rules = admin_of(runtime_of(planned), source).snapshot().violations
    assert rules == {each.rule: each.messages for each in counted(planned, source)}


PROGRAM = """
import sys
from celery import Celery
from celery_segment import track

app = Celery(set_as_current=True)
app.conf.update(segment_redis_url=sys.argv[1], segment_tracking_plan=sys.argv[2])
for _ in range(9):
    track.delay("u", "Own Handler", {"call number": "ann@example.com"})
"""


def test_they_are_reported_together_and_at_last_when_the_process_ends(
    make_app, redis, redis_server
):
    app, before = make_app(), _scripts(redis)
    arguments = [redis_server.url, str(PLAN)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert counted(app) == [PATTERN._replace(messages=9)]
    assert _scripts(redis) - before < 9 + 9


def test_a_process_of_a_workers_pool_reports_at_its_end_too(make_app, workers):
    # It has one try, for which a busy machine may take longer than by default.
    app = make_app(segment_tracking_plan=str(PLAN), segment_redis_timeout=5.0)
    worker = workers.start(app, processes=1)
    for _ in range(9):
        app.send_task("segment.track", ("u", "Own Handler", BAD))
    figures = admin_of(runtime_of(app), "default").snapshot
    wait_until(lambda: figures().accepted == 9)
    assert worker.stop() == 0
    assert counted(app) == [PATTERN._replace(messages=9)]


@pytest.mark.usefixtures("at_once")
def test_on_an_event_loop_they_are_counted_too(planned):
    asyncio.run(track.adelay("u", "Own Handler", BAD, source="log"))
    assert counted(planned, "log") == [PATTERN]


def test_a_call_that_keeps_to_the_plan_reports_nothing_of_its_own(planned, redis):
    violate("log")
    before, calls = _scripts(redis), 20
    for _ in range(calls):
        track.delay("u", "Own Handler", {"call number": "Folio 3"}, source="log")
    assert _scripts(redis) - before == calls
    assert counted(planned, "log") == [PATTERN]


def test_while_redis_is_away_they_wait(make_app):
    conf = {"segment_tracking_plan": str(PLAN), "segment_on_unavailable": "drop"}
    app = make_app(segment_redis_url=f"redis://127.0.0.1:{free_port()}/0", **conf)
    track.delay("u", "Own Handler", BAD)
    found = runtime_of(app).producer("default").violations
    assert found
    heard = []
    found.report(heard.extend)
    assert heard == [PATTERN]


@pytest.mark.usefixtures("at_once")
def test_shards_are_counted_together(make_app):
    app = make_app(segment_tracking_plan=str(PLAN), segment_shards=2)
    for _ in range(4):
        track.delay("u", "Own Handler", BAD)
    assert counted(app) == [PATTERN._replace(messages=4)]


@pytest.mark.usefixtures("at_once")
def test_they_are_listed_by_a_command(planned):
    assert ok(planned, "plan", "violations", "--source", "log") == "log: no violations\n"
    violate("log")
    violate("log")
    violate("log", "Nobody's")
    shown = ok(planned, "plan", "violations", "--source", "log").splitlines()
    assert [line.split() for line in shown if "─" not in line] == [
        ["messages", "event", "path", "rule"],
        ["2", "track", "Own", "Handler", "properties.call", "number", "pattern"],
        ["1", "track", "Nobody's", "event", "unplanned"],
    ]
    told = json.loads(ok(planned, "plan", "violations", "--source", "log", "--json"))
    assert [Violations(**each) for each in told] == counted(planned, "log")
    assert "'none'" in failed(planned, "plan", "violations", "--source", "none")


def test_events_that_vary_do_not_fill_redis(make_app, redis):
    buffer = buffer_of(make_app())
    for part in range(4):
        buffer.count_violations(
            [UNPLANNED._replace(event=f"E{part}-{n}") for n in range(100)] + [PATTERN]
        )
    assert redis.hlen("{segment:default}:violations") == MOST + 1
    found = buffer.admin.violations()
    assert sum(each.messages for each in found) == 404
    assert found[0] == OTHERS._replace(messages=100 + 1)
    assert PATTERN._replace(messages=4) in found[:2]
    assert buffer.admin.snapshot().violations == {"pattern": 4, "unplanned": 400}


def test_nor_the_process():
    waiting = pending.PendingViolations()
    for n in range(pending.MOST + 5):
        waiting.add(UNPLANNED._replace(event=f"E{n}"))
    heard = []
    waiting.report(heard.extend)
    assert len(heard) == pending.MOST + 1
    assert Counter(each.type for each in heard) == {"track": pending.MOST, "": 1}
    assert heard[-1] == OTHERS._replace(rule="unplanned", messages=5)


@pytest.fixture
def reporting(make_app):
    def make(action, **conf):
        plan = {"segment_tracking_plan": str(PLAN), "segment_report_violations": True}
        return make_app(segment_on_violation=action, segment_on_unplanned=action, **plan, **conf)

    return make


@pytest.mark.parametrize("action", ["allow", "log", "raise", "quarantine"])
def test_segment_is_told_without_the_values(reporting, redis, action):
    reporting(action, segment_context={"app": {"version": "1.2"}})
    arguments = {"message_id": "m", "timestamp": "2026-03-01T09:30:00.000Z"}
    try:
        track.delay("u", "Own Handler", BAD, **arguments)
    except ValidationError:
        assert action == "raise"
    told = [each for each in stored(redis) if each["event"] == "Violation Generated"]
    assert [each["userId"] for each in told] == ["schema-violations"]
    assert told[0]["properties"] == {
        "appVersion": "1.2",
        "eventMessageID": "m",
        "eventName": "Own Handler",
        "eventTimestamp": "2026-03-01T09:30:00.000Z",
        "eventType": "track",
        "sourceName": "default",
        "violationDescription": "properties.call number must match the pattern Folio|Quarto",
        "violationField": "properties.call number",
        "violationType": "Pattern",
    }
    assert BAD["call number"] not in str(told)


def test_it_is_told_of_some_in_each_second(reporting, redis, monkeypatch):
    monkeypatch.setattr(violation_events, "PERIOD", 3_600.0)
    reporting("log")
    for n in range(violation_events.MOST + 5):
        track.delay("u", f"Nobody's {n}")
    told = [each["properties"] for each in stored(redis) if each["userId"] != "u"]
    assert [each["violationType"] for each in told] == ["Unplanned"] * violation_events.MOST


def test_what_tells_of_a_violation_takes_no_calls_error_away(reporting):
    app = reporting("raise", segment_max_buffer_bytes=600_000)
    good = {"call number": "Folio 3", "x": "x" * 30_000}
    with pytest.raises(BufferFull):
        for _ in range(100):
            track.delay("u", "Own Handler", good)
    with pytest.raises(ValidationError):
        track.delay("u", "Own Handler", BAD)
    assert counted(app) == [PATTERN]


def test_a_test_is_not_told(reporting, segment_outbox):
    reporting("log")
    with segment_outbox.expect_violation("Own Handler"):
        track.delay("u", "Own Handler", BAD)
    assert [each["event"] for each in segment_outbox] == ["Own Handler"]
