"""`celery segment flush`, `pause` and `resume`."""

from __future__ import annotations

import json
import time

from celery_segment import Analytics
from commands import ok, run
from operating import store
from support import buffer_of

# ---------------------------------------------------------------- flush


def test_flush_with_nothing_stored(app):
    assert ok(app, "flush") == "default: nothing remains\nmarketing: nothing remains\n"


def test_flush_without_a_worker_says_so(app):
    store(app, *["a"] * 1_234)
    result = run(app, "flush", "--timeout", "0.1")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "default: 1,234 messages remain: no worker answers; start one with `celery worker`",
        "marketing: nothing remains",
    ]


def test_flush_does_not_wait_for_a_paused_source(app):
    store(app, "a", source="marketing")
    ok(app, "pause")
    started = time.monotonic()
    result = run(app, "flush", "--source", "marketing", "--json")
    assert time.monotonic() - started < 5
    assert result.exit_code == 1
    found = json.loads(result.stdout)["marketing"]
    assert found["remaining"] == 1
    assert found["reason"] == (
        "1 message remains: the source is paused; run `celery segment resume --source marketing`"
    )


def test_flush_shows_what_closed_the_source(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "refused", 0.0, "404 Not Found", breaker=(1, 90.0, 90.0))
    result = run(app, "flush", "--timeout", "0", "--source", "default")
    assert result.exit_code == 1
    assert "1 message remains: the source is closed for 1 min 30 s: 404 Not" in result.stdout


def test_flush_with_the_broker_away_says_so_quickly(make_app, redis_server, caplog):
    away = "redis://127.0.0.1:1/0"
    app = make_app(broker_url=away, segment_redis_url=redis_server.url)
    store(app, "a")
    started = time.monotonic()
    result = run(app, "flush", "--timeout", "0.1")
    assert time.monotonic() - started < 5
    assert result.exit_code == 1
    assert "1 message remains: the broker is unreachable" in result.stdout
    assert "no worker was woken" in caplog.text


# ---------------------------------------------------------------- pause, resume


def test_pause_and_resume_report_what_they_did(app):
    analytics = Analytics(app=app)
    assert ok(app, "pause", "--source", "default").startswith("default: paused;")
    assert ok(app, "pause") == (
        "default: already paused\n"
        "marketing: paused; calls are still stored, and delivered once it is resumed\n"
    )
    assert analytics.stats().gate.state == "paused"
    assert ok(app, "resume", "--source", "default") == "default: resumed; delivery starts at once\n"
    assert analytics.stats().gate.state == "open"
    assert Analytics("marketing", app=app).stats().gate.state == "paused"
    assert ok(app, "resume").count("resumed; delivery starts at once") == 2


def test_resume_says_that_the_endpoints_own_wait_still_holds(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "asked", 200.0, "429, Retry-After 200 s", breaker=(5, 1.0, 60.0))
    ok(app, "pause")
    assert ok(app, "resume", "--source", "default") == (
        "default: resumed, but the endpoint asked for a wait (Retry-After):"
        " delivery continues in 3 min 20 s\n"
    )
