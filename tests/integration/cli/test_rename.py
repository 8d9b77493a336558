"""`celery segment rename`, and figures of sources that are stored and not configured."""

from __future__ import annotations

import json
import re

import pytest

from commands import failed, ok, run
from moving import AFTER, BEFORE, fill, stats
from operating import bury, cells
from support import buffer_of

NOT_CONFIGURED = "not configured: see `segment check`"


@pytest.fixture
def before(make_app):
    return make_app(**BEFORE)


@pytest.fixture
def app(before, make_app):
    fill(before, 0, 3)
    bury(before, "a", "b", source="old")
    fill(before, 5, 1_200)
    return make_app(**AFTER)


def test_rename_moves_everything(app, redis):
    expected = "old: moved 1,205 messages to new; nothing remains\n"
    assert ok(app, "rename", "old", "new") == expected
    assert ok(app, "rename", "old", "new") == "old: moved 0 messages to new; nothing remains\n"
    assert stats(app).accepted == 1_205
    assert redis.keys("{segment:old}*") == []


def test_rename_as_json(app):
    found = json.loads(ok(app, "rename", "old", "new", "--json"))
    assert found == {"moved": 1_205, "remaining": 0, "waits_for": ""}


def test_a_dry_run_of_rename_moves_nothing(app, before):
    assert ok(app, "rename", "old", "new", "--dry-run") == "old: would move 1,205 messages to new\n"
    assert stats(before, "old").accepted == 1_205


def test_rename_says_what_remains(app, before):
    fill(before, 2_000, 1)
    buffer_of(before, "old").claim(1)
    result = run(app, "rename", "old", "new", "--timeout", "0")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"old: moved [\d,]+ messages to new; [\d,]+ messages? remains? and waits? for a worker"
        r" that delivers them, or whose lease has not expired yet\n",
        result.stdout,
    )


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "no terminal"])
def test_rename_asks_where_the_old_name_is_configured(before, answer):
    fill(before, 0, 3)
    said = failed(before, "rename", "old", "new", answer=answer)
    assert said.startswith("old is still configured: calls and workers may use it. Move what")
    assert stats(before, "old").accepted == 3


@pytest.mark.parametrize("options", [{"answer": "y\n"}, {}], ids=["asked", "yes"])
def test_rename_of_a_configured_source(before, options):
    fill(before, 0, 3)
    args = () if options else ("--yes",)
    said = ok(before, "rename", "old", "new", *args, **options)
    assert said.endswith("old: moved 3 messages to new; nothing remains\n")
    assert stats(before).accepted == 3


def test_rename_asks_where_another_application_delivers_the_source(app, redis):
    redis.hset("{segment:old}:state", "owner", "billing")
    said = failed(app, "rename", "old", "new", answer="n\n")
    assert said.startswith("old is delivered by the application 'billing'. Move what it holds to")
    (row,) = [row for row in cells(ok(app, "status")) if row["source"] == "old"]
    assert row["gate"] == "not configured (of billing): see `segment check`"
    assert ok(app, "rename", "old", "new", "--yes").startswith("old: moved 1,205 messages")


def test_rename_to_what_is_not_configured(app):
    said = failed(app, "rename", "old", "newer")
    assert said.startswith("Error: source 'newer' is not configured: add it to segment_sources")


# ---------------------------------------------------------------- status and metrics


def test_status_shows_what_is_not_configured(app):
    default, new, old = cells(ok(app, "status"))
    assert [each["source"] for each in (default, new, old)] == ["default", "new", "old"]
    assert (old["gate"], new["gate"]) == (NOT_CONFIGURED, "open")
    assert (old["accepted"], old["dead"]) == ("1,205", "5")
    figures = json.loads(ok(app, "status", "--json"))
    assert figures["old"]["configured"] is False
    assert figures["old"]["buffered"]["messages"] == 1_200
    assert "configured" not in figures["new"]
    assert [row["source"] for row in cells(ok(app, "status", "--source", "new"))] == ["new"]
    ok(app, "rename", "old", "new")
    assert [row["source"] for row in cells(ok(app, "status"))] == ["default", "new"]


def test_what_has_nothing_left_and_what_is_anothers_is_not_shown(make_app, redis):
    other = make_app(**BEFORE, segment_namespace="other")
    fill(other, 0, 3)
    redis.hset("{segment:done}:stats", "delivered", 9)
    redis.set("{segment:default", 1)
    app = make_app(**AFTER)
    assert [row["source"] for row in cells(ok(app, "status"))] == ["default", "new"]
    app = make_app(**AFTER, segment_namespace="other")
    assert [row["source"] for row in cells(ok(app, "status"))] == ["default", "new", "old"]


def test_a_started_worker_notes_its_sources(before, workers, redis):
    workers.start(before, processes=1)
    assert set(redis.hkeys("{segment:}:sources")) == {b"default", b"old", b"new"}


def test_the_metrics_count_what_is_not_configured(app, redis):
    def lines():
        printed = ok(app, "metrics", "--once").splitlines()
        return [line for line in printed if line.startswith("segment_unconfigured_messages{")]

    assert lines() == []
    redis.hset("{segment:}:sources", "old", 1)
    redis.hset("{segment:old}:state", "owner", "billing")
    assert lines() == []
    redis.hset("{segment:old}:state", "owner", "tests")
    assert lines() == [
        'segment_unconfigured_messages{source="old",state="waiting"} 1200.0',
        'segment_unconfigured_messages{source="old",state="dead"} 5.0',
    ]
