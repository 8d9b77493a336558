"""`celery segment dead`: list, show, replay and purge."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from decimal import Decimal

import pytest

from celery_segment import Analytics, track
from commands import failed, ok, run
from operating import bury, cells, store
from support import buffer_of


def test_dead_list_is_a_table_with_a_line_for_each(app):
    reason = "400 Bad Request: " + "very long and [not markup] " * 7
    first, second = bury(app, *["bad"] * 1_000, reason=reason), bury(app, "worse")
    before, after = cells(ok(app, "dead", "list"))
    assert [before["batch"], after["batch"]] == [first, second]
    assert [before["messages"], after["messages"]] == ["1,000", "1"]
    assert before["reason"] == reason.strip()
    letter = next(iter(Analytics(app=app).dead_letters))
    assert before["bytes"] == f"{letter.bytes:,}"
    when = datetime.strptime(before["when"], "%Y-%m-%d %H:%M:%S").astimezone()
    assert when == datetime.fromtimestamp(int(letter.buried), timezone.utc)


def test_dead_list_as_json(app):
    batch = bury(app, "bad", reason="422 Unprocessable", source="marketing")
    assert ok(app, "dead", "list") == "default: no dead letters\n"
    assert json.loads(ok(app, "dead", "list", "--json")) == []
    (letter,) = json.loads(ok(app, "dead", "list", "--source", "marketing", "--json"))
    assert letter["id"] == batch
    assert letter["messages"] == 1
    assert letter["reason"] == "422 Unprocessable"
    assert letter["buried"] == pytest.approx(time.time(), abs=10)


def test_dead_show_prints_the_messages(app):
    event = "Zürich \x1b[31m \u009b31m"
    batch = bury(app, event, "second")
    pretty, plain = ok(app, "dead", "show", batch), ok(app, "dead", "show", batch, "--json")
    assert "Zürich" in pretty
    assert "\u009b" not in pretty
    assert plain.count("\n") == 1 < pretty.count("\n")
    assert json.loads(pretty) == json.loads(plain)
    assert [message["event"] for message in json.loads(plain)] == [event, "second"]


def test_dead_show_of_what_is_no_dead_letter(app):
    store(app, "a")
    waiting = str(buffer_of(app).admin.mark())
    expected = f"Error: default: no such dead letter ({waiting}): see `dead list`\n"
    assert failed(app, "dead", "show", waiting) == expected


def test_dead_replay_of_named_batches(app, redis):
    first, second, third = bury(app, "a", "b"), bury(app, "c"), bury(app, "d")
    redis.delete("celery")
    assert ok(app, "dead", "replay", first, third, first) == "default: replayed 3 messages\n"
    assert [letter.id for letter in Analytics(app=app).dead_letters] == [second]
    assert Analytics(app=app).stats().ready.messages == 3
    (woken,) = redis.lrange("celery", 0, -1)
    assert json.loads(woken)["headers"]["task"] == "segment.drain"


def test_dead_replay_of_all(app):
    for _ in range(3):
        bury(app, "a", "b")
    bury(app, "other", source="marketing")
    assert ok(app, "dead", "replay", "--all") == "default: replayed 6 messages\n"
    assert ok(app, "dead", "replay", "--all") == "default: replayed 0 messages\n"
    assert Analytics("marketing", app=app).stats().dead.messages == 1
    assert ok(app, "dead", "replay", "--all", "--source", "marketing").endswith("1 message\n")


@pytest.mark.parametrize("what", ["replay", "purge"])
def test_unknown_ids_are_reported_and_the_others_done(app, what):
    batch = bury(app, "a", "b")
    result = run(app, "dead", what, "no\nsuch", batch, "77")
    assert result.exit_code == 1
    assert result.stdout == f"default: {what}{'d' if what[-1] == 'e' else 'ed'} 2 messages\n"
    expected = "Error: default: no such dead letter (no such, 77): see `dead list`\n"
    assert result.stderr == expected
    assert failed(app, "dead", what, batch) == expected.replace("no such, 77", batch)


@pytest.mark.parametrize("what", ["replay", "purge"])
@pytest.mark.parametrize("args", [(), ("1", "--all"), ("1", "--since=1d"), ("--all", "--reason=x")])
def test_replay_and_purge_need_ids_or_all(app, what, args):
    bury(app, "a")
    result = run(app, "dead", what, *args)
    assert result.exit_code == 2
    assert "Give batch ids as shown by `dead list`, or --all, or any of --reason" in result.stderr
    assert Analytics(app=app).stats().dead.messages == 1


def test_dead_purge_of_named_batches_does_not_ask(app):
    first, second = bury(app, "a", "b"), bury(app, "c")
    assert ok(app, "dead", "purge", first) == "default: purged 2 messages\n"
    assert [letter.id for letter in Analytics(app=app).dead_letters] == [second]
    assert Analytics(app=app).stats().purged == 2


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "no terminal"])
def test_dead_purge_of_all_asks_first(app, answer):
    bury(app, *["a"] * 1_000)
    said = failed(app, "dead", "purge", "--all", answer=answer)
    assert said.startswith("default: delete 1,000 messages permanently? [y/N]:")
    assert Analytics(app=app).stats().dead.messages == 1_000


@pytest.mark.parametrize("options", [{"answer": "y\n"}, {}], ids=["asked", "yes"])
def test_dead_purge_of_all(app, options):
    for _ in range(2):
        bury(app, *["a"] * 1_000)
    args = () if options else ("--yes",)
    assert ok(app, "dead", "purge", "--all", *args, **options).endswith("purged 2,000 messages\n")
    assert ok(app, "dead", "purge", "--all") == "default: purged 0 messages\n"


def test_dead_show_prints_every_digit_of_a_number(app):
    digits = "0.12345678901234567890123"
    with Analytics(app=app).batch():
        track(user_id="u", event="E", properties={"exact": Decimal(digits), "large": 10**30})
    batch = bury(app)
    for shown in (ok(app, "dead", "show", batch), ok(app, "dead", "show", batch, "--json")):
        assert digits in shown
        assert str(10**30) in shown
