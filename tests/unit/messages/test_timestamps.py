"""A message's timestamp: UTC in milliseconds, whatever the caller gives."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from building import UTC, Loud, refusal, track, wire


@pytest.fixture
def zone(monkeypatch):
    """Set the machine's time zone until the test ends."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


# ---------------------------------------------------------------- timestamps


def stamp(value):
    return wire(track(timestamp=value))["timestamp"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 11, 23, 7, 0, tzinfo=UTC), "2026-11-23T07:00:00.000Z"),
        (datetime(2026, 11, 23, 7, 0, 0, 999999, tzinfo=UTC), "2026-11-23T07:00:00.999Z"),
        (datetime(2026, 11, 23, 7, 0, 0, 1999, tzinfo=UTC), "2026-11-23T07:00:00.001Z"),
        (
            datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-11-23T01:30:00.000Z",
        ),
        (
            datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))),
            "2025-12-31T22:30:00.000Z",
        ),
        (datetime(2001, 2, 3, 4, 5, 6), "2001-02-03T04:05:06.000Z"),  # noqa: DTZ001
        (datetime.min, "0001-01-01T00:00:00.000Z"),  # noqa: DTZ901
        (datetime.max, "9999-12-31T23:59:59.999Z"),  # noqa: DTZ901
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00:00:00.000Z"),
        ("2026-11-23T07:00:00.123Z", "2026-11-23T07:00:00.123Z"),
        ("2026-11-23T07:00:00Z", "2026-11-23T07:00:00.000Z"),
        ("2026-11-23 07:00:00.5+02:00", "2026-11-23T05:00:00.500Z"),
        ("2026-11-23T07:00:00.123456-00:30", "2026-11-23T07:30:00.123Z"),
        ("2001-02-03T04:05:06", "2001-02-03T04:05:06.000Z"),
        (Loud("2001-02-03T04:05:06Z"), "2001-02-03T04:05:06.000Z"),
        (pd.Timestamp("2026-11-23T07:00:00.123456789+01:00"), "2026-11-23T06:00:00.123Z"),
        (np.datetime64("2026-11-23T07:00:00.123456789"), "2026-11-23T07:00:00.123Z"),
        (np.datetime64("2026-11-23T07:00"), "2026-11-23T07:00:00.000Z"),
    ],
)
@pytest.mark.parametrize("machine", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_timestamps_are_utc_in_milliseconds(zone, machine, value, expected):
    zone(machine)
    assert stamp(value) == expected


@pytest.mark.parametrize("machine", ["UTC", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("form", [lambda t: t, lambda t: t.isoformat()], ids=["datetime", "text"])
def test_a_naive_timestamp_near_now_is_local_time(zone, machine, form):
    zone(machine)
    before = datetime.now(UTC)
    sent = datetime.fromisoformat(stamp(form(datetime.now())).replace("Z", "+00:00"))  # noqa: DTZ005
    assert before - timedelta(milliseconds=1) <= sent <= datetime.now(UTC)


def test_a_naive_timestamp_ten_seconds_ago_is_utc(zone):
    zone("America/New_York")
    naive = (datetime.now() - timedelta(seconds=10)).replace(microsecond=0)  # noqa: DTZ005
    assert stamp(naive) == f"{naive.isoformat()}.000Z"


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (date(2026, 11, 23), "add a time of day"),
        (1_700_000_000, "pass a datetime"),
        (1_700_000_000.5, "pass a datetime"),
        (True, "pass a datetime"),
        (b"2026-11-23T07:00:00Z", "pass a datetime"),
        (np.datetime64("2026-11-23"), "add a time of day"),
        (pd.NaT, "pass a datetime"),
        (pd.NA, "pass a datetime"),
        (np.datetime64("NaT", "ns"), "pass a datetime"),
        (np.array(["2026-11-23"], dtype="M8[ns]"), "pass a datetime"),
        ("", "is not ISO 8601"),
        ("yesterday", "is not ISO 8601"),
        ("2026-11-23", "is not ISO 8601"),
        ("2026-13-23T07:00:00Z", "is not ISO 8601"),
        ("2026-11-23T07:00:00+24:00", "is not ISO 8601"),
        ("1700000000", "is not ISO 8601"),
        ("\ud800", "is not ISO 8601"),
        ("x" * 10_000, "is not ISO 8601"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "out of range"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "out of range"),
        ("0001-01-01T00:00:00+05:00", "out of range"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_what_is_no_timestamp_is_refused(value, hint):
    error = refusal(timestamp=value)
    assert error.field == "timestamp"
    assert hint in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize("machine", ["UTC", "America/New_York"])
def test_an_absent_timestamp_is_now(zone, machine):
    zone(machine)
    before = datetime.now(UTC)
    sent = datetime.fromisoformat(wire(track())["timestamp"].replace("Z", "+00:00"))
    assert before - timedelta(milliseconds=1) < sent <= datetime.now(UTC)


def test_the_clock_is_read_at_every_call(monkeypatch):
    seconds = [1_700_000_000.999, 1_700_000_001.0, 1_700_000_001.0015, 1_699_999_999.5]
    clock = iter(seconds)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: next(clock))
        stamps = [track().timestamp for _ in seconds]
    assert stamps == [
        "2023-11-14T22:13:20.999Z",
        "2023-11-14T22:13:21.000Z",
        "2023-11-14T22:13:21.001Z",
        "2023-11-14T22:13:19.500Z",
    ]
