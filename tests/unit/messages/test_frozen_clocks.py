"""While time is frozen, a call does what it does at any other time."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from datetime import date, datetime, timedelta
from functools import partial

import freezegun
import pytest
import time_machine

from building import UTC, refusal, track, wire
from celery_segment.messages import run_hook

#: Half past one in the night, in the time zone of the fixture.
MOMENT = datetime(2020, 1, 1, 6, 30, 0, 500_000, tzinfo=UTC)
FROZEN = "2020-01-01T06:30:00.500Z"

#: pytest goes on to measure how long a test takes.
freeze = partial(freezegun.freeze_time, MOMENT, ignore=["_pytest.timing"])

FREEZERS = {
    "freezegun": freeze,
    "freezegun-ticking": lambda: freeze(tick=True),
    "freezegun-elsewhere": lambda: freeze(tz_offset=timedelta(hours=3)),
    "time-machine": lambda: time_machine.travel(MOMENT, tick=False),
}


@pytest.fixture(params=FREEZERS)
def frozen(request, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    with FREEZERS[request.param]():
        yield request.param
    monkeypatch.undo()
    time.tzset()


def stamp(value):
    return wire(track(timestamp=value))["timestamp"]


def test_a_call_is_of_the_frozen_time(frozen):
    sent = stamp(None)
    assert sent[:19] == FROZEN[:19] if frozen == "freezegun-ticking" else sent == FROZEN


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-23T07:00:00.123Z", "2026-11-23T07:00:00.123Z"),
        ("2026-11-23T07:00:00+01:00", "2026-11-23T06:00:00.000Z"),
        ("2026-11-23T07:00:00", "2026-11-23T07:00:00.000Z"),
        (datetime(2026, 11, 23, 7, tzinfo=UTC), "2026-11-23T07:00:00.000Z"),
        (datetime(2026, 11, 23, 7), "2026-11-23T07:00:00.000Z"),  # noqa: DTZ001
    ],
)
def test_timestamps_are_what_they_are(value, expected):
    assert stamp(value) == expected


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("form", [lambda t: t, lambda t: t.isoformat()], ids=["datetime", "text"])
def test_a_naive_timestamp_of_now_is_local_time(form):
    assert stamp(form(dt.datetime.now()))[:19] == FROZEN[:19]  # noqa: DTZ005


@pytest.mark.usefixtures("frozen")
def test_a_date_has_no_time_of_day():
    for day in (date(2026, 11, 23), dt.date.today()):  # noqa: DTZ011
        assert "add a time of day" in str(refusal(timestamp=day))
    assert "is not ISO 8601" in str(refusal(timestamp="2026-11-23"))


@pytest.mark.usefixtures("frozen")
def test_a_hook_gets_and_returns_the_message():
    message = track(timestamp="2026-11-23T07:00:00Z")
    assert wire(run_hook(message, lambda content: content)) == wire(message)


@pytest.mark.usefixtures("frozen")
def test_frozen_times_are_values_and_keys_as_any_others():
    times = {
        "patched": dt.datetime(2026, 11, 23, 7, tzinfo=UTC),
        "real": datetime(2026, 11, 23, 7, tzinfo=UTC),
        "naive": dt.datetime(2026, 11, 23, 7),  # noqa: DTZ001
        "day": dt.date(2026, 11, 23),
        "real day": date(2026, 11, 23),
        dt.date(2026, 11, 23): 1,
    }
    assert wire(track(properties=times))["properties"] == {
        "patched": "2026-11-23T07:00:00Z",
        "real": "2026-11-23T07:00:00Z",
        "naive": "2026-11-23T07:00:00",
        "day": "2026-11-23",
        "real day": "2026-11-23",
        "2026-11-23": 1,
    }


@pytest.mark.parametrize("freezer", ["freezegun.freeze_time", "time_machine.travel"])
def test_the_library_may_be_imported_while_time_is_frozen(freezer):
    # In a process of its own, as here it is imported already.
    program = f"""
import datetime, freezegun, json, time_machine
real = datetime.datetime(2026, 11, 23, 7, tzinfo=datetime.timezone.utc)
sent = []
def send():
    from celery_segment.messages import Track, build_message, encode, run_hook
    own = dict.fromkeys(("anonymous_id", "integrations"))
    for value in ("2026-11-23T07:00:00Z", real, datetime.datetime.now(datetime.timezone.utc)):
        own["properties"] = {{"value": value, "day": value.date() if value is real else None}}
        built = build_message(Track, user_id="u", event="E", timestamp=value, **own)
        sent.append(json.loads(encode(run_hook(built, lambda content: content))))
with {freezer}("2020-01-01T06:30:00.500Z"):
    send()
send()
print(json.dumps(sent))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    sent = json.loads(run.stdout)
    assert [m["timestamp"][:10] for m in sent[:3]] == ["2026-11-23", "2026-11-23", "2020-01-01"]
    assert sent[4]["timestamp"] == sent[1]["timestamp"] == "2026-11-23T07:00:00.000Z"
    assert sent[4]["properties"] == sent[1]["properties"]
    assert sent[5]["timestamp"] > "2026"
