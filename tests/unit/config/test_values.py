"""A setting that is unknown, or of a wrong value, is refused by its name."""

from __future__ import annotations

import dataclasses

import pytest

from celery_segment.config import Settings, Source, declared
from configuring import DEFAULTS, configured, refusal, source


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("segment_flush_att", "segment_flush_at"),
        ("segment_flushat", "segment_flush_at"),
        ("segment_writekey", "segment_write_key"),
        ("segment_hosts", "segment_host"),
        ("segment_source", "segment_sources"),
        ("segment_redis", "segment_redis_url"),
        ("segment_max_batch_size", "segment_max_batch_bytes"),
        ("segment_ticks", "segment_tick"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(given, nearest):
    text = refusal(**{given: 5})
    assert text == f"{given} is not a setting: did you mean {nearest}?"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("write_kee", "write_key"), ("flush_att", "flush_at"), ("hots", "host")],
)
def test_an_unknown_setting_of_a_source_is_refused_with_the_nearest(given, nearest):
    text = refusal(segment_sources={"m": {given: 5}})
    where = "segment_sources['m']."
    assert text == f"{where}{given} is not a setting: did you mean {where}{nearest}?"


@pytest.mark.parametrize("name", ["name", "redis_url", "redis_timeout", "tick", "sources", 5, None])
def test_what_is_not_a_sources_is_refused_there(name):
    text = refusal(segment_sources={"m": {name: 5}})
    assert text.startswith(f"segment_sources['m'].{name} is not a setting")


def test_any_unknown_name_is_refused():
    for name in ("segment_", "segment_name", "segment_x" * 30):
        assert f"{name} is not a setting: did you mean segment_" in refusal(**{name: 1})


NO_NUMBER = [None, "5", True, [5], b"5"]
NO_WHOLE_NUMBER = [*NO_NUMBER, 1.0, 1.5, float("nan")]
NO_TRUTH = [None, 0, 1, "true", "", []]
NO_URL = [5, b"https://h", ["https://h"], ""]
NAN, INF = float("nan"), float("inf")

BAD = {
    "host": [
        *(None, *NO_URL, "  ", "ftp://h", "://h", "https://", "https://:80", "https://h:port"),
        *("https://h:99999", "https://[::1", "https://ho st", "https://h?q=1", "https://h#f"),
    ],
    "allow_http": NO_TRUTH,
    "enabled": NO_TRUTH,
    "flush_at": [*NO_WHOLE_NUMBER, 0, -1],
    "flush_interval": [*NO_NUMBER, 0, 0.09, -1, NAN, INF, 10**400],
    "max_batch_bytes": [*NO_WHOLE_NUMBER, 0, 32_999, 500_001, 512_000],
    "max_batch_messages": [*NO_WHOLE_NUMBER, 0, 2_501],
    "max_buffer_bytes": [*(v for v in NO_WHOLE_NUMBER if v is not None), 0, 99_999],
    "max_memory_share": [*NO_NUMBER, 0, 0.09, 1.01, -1, NAN, INF],
    "shards": [*NO_WHOLE_NUMBER, 0, -1, 101],
    "ordered": NO_TRUTH,
    "wait_replicas": [*NO_WHOLE_NUMBER, -1, 101],
    "on_invalid": [None, "drop", "Raise", True, 1, ["raise"]],
    "on_full": [None, "spill", "Raise", True, 1, ["raise"]],
    "on_unavailable": [None, "ignore", "", False, {"raise"}],
    "context": [5, [], "ip", {1: "a"}],
    "integrations": [5, ["All"], "All", {None: True}],
    "before_send": [5, "", "nowhere.hook", "json.nothing", "json.__name__", ["json.loads"]],
    "tracking_plan": [5, b"plan.json", "", "/nowhere/plan.json", "/", ["plan.json"]],
    "on_unplanned": [None, "drop", "Raise", True, 1, ["raise"]],
    "on_violation": [None, "drop", "Raise", True, 1, ["raise"]],
    "omit_unplanned_properties": NO_TRUTH,
    "report_violations": NO_TRUTH,
    "on_delivered": [5, "", " ", ["tell"]],
    "on_failed": [5, "", {}],
    "gzip": NO_TRUTH,
    "timeout": [*NO_NUMBER, 0, 0.09, 301, NAN, INF],
    "proxies": ["http://proxy", ["http://proxy"], {"https": None}, {1: "http://p"}, 5],
    "ca_bundle": ["/nowhere/ca.pem", "", 5, b"/etc"],
    "max_retries": [*NO_WHOLE_NUMBER, -1],
    "retry_for": [*NO_NUMBER, -1, NAN],
    "max_inflight": [*NO_WHOLE_NUMBER, 0, 1_001],
    "lease": [*NO_NUMBER, 0, 86_401, NAN, INF],
    "max_dead_bytes": [*NO_WHOLE_NUMBER, 0, -1, 999_999, INF],
    "dead_retention": [*(v for v in NO_NUMBER if v is not None), 0, 59.9, -1, NAN],
    "redis_url": [
        *NO_URL[:-1],
        "localhost",
        "http://h",
        "amqp://h",
        "redis://h:port",
        "redis://h h",
    ],
    "redis_max_connections": [*NO_NUMBER, 0, 10_001, 1.5],
    "namespace": [5, b"a", "a:b", "{a}", "x" * 65, "é"],
    "redis_timeout": [*NO_NUMBER, 0, 61, NAN, INF],
    "spill_path": ["/nowhere/spill", "", 5, b"/tmp/spill"],
    "max_spill_bytes": [*NO_WHOLE_NUMBER, 0, 99_999],
    "trusted_proxies": [*NO_WHOLE_NUMBER, -1, 11],
    "set_anonymous_id": NO_TRUTH,
    "batch_requests": NO_TRUTH,
    "worker_share": [*NO_NUMBER, 0, 0.009, 1.01, NAN, INF],
    "queue": [5, "", "  ", b"q", ["q"], True],
    "max_requests_per_second": [*NO_NUMBER, 0, 0.09, 100_001, NAN, INF],
    "capture_tests": NO_TRUTH,
    "signing_key": [5, b"k" * 32, "", "short", "k" * 31, f"{'k' * 32},short"],
    "allowed_callbacks": [5, "shop.tasks.booked", [5], [""], {"a": 1}, None],
    "propagate_visitor": NO_TRUTH,
    "idempotency": [None, "", "always", "Task", True, 1, ["off"]],
    "tick": NO_TRUTH,
}


OAUTH = {"client_id": "c", "private_key": "k.pem", "key_id": "k"}
BAD["oauth"] = [
    *(5, "", "c", ["c"], {}, {**OAUTH, "secret": "s"}, {**OAUTH, 5: "s"}),
    *({name: value for name, value in OAUTH.items() if name != left_out} for left_out in OAUTH),
    *({**OAUTH, name: bad} for name in (*OAUTH, "scope") for bad in (5, "", " ", None, b"k")),
    *({**OAUTH, name: "a\nb"} for name in ("client_id", "key_id", "scope")),
    *({**OAUTH, "auth_server": bad} for bad in (5, "", "ftp://h", "http://h", "https://u:p@h")),
]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_by_name(name):
    for value in BAD[name]:
        text = refusal(**{f"segment_{name}": value})
        assert text.startswith(f"segment_{name} must be "), value
        if name in DEFAULTS:
            text = refusal(segment_sources={"m": {name: value}})
            assert text.startswith(f"segment_sources['m'].{name} must be "), value


def test_bad_values_are_known_of_every_setting():
    assert {*BAD, "write_key"} == {*declared(Source), *declared(Settings)}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("flush_at", 1, 10**9),
        ("flush_interval", 0.1, 86_400),
        ("max_batch_bytes", 33_000, 500_000),
        ("max_batch_messages", 1, 2_500),
        ("max_memory_share", 0.1, 1),
        ("wait_replicas", 0, 100),
        ("timeout", 0.1, 100),
        ("max_retries", 0, 10**9),
        ("retry_for", 0, float("inf")),
        ("max_inflight", 1, 1_000),
        ("lease", 20, 86_400),
        ("max_dead_bytes", 1_000_000, 10**15),
        ("dead_retention", 60, 10**9),
    ],
)
def test_the_bounds_themselves_are_allowed(name, least, most):
    for value in (least, most):
        assert getattr(source(**{f"segment_{name}": value}), name) == value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("worker_share", (0.01, 1)),
        ("max_requests_per_second", (0.1, 100_000)),
        ("queue", (None, "segment")),
    ],
)
def test_what_counts_for_all_sources_may_have_the_bounds_too(name, values):
    for value in values:
        assert getattr(configured(**{f"segment_{name}": value}), name) == value


def test_a_number_too_large_for_a_float_is_refused_by_name():
    assert refusal(segment_retry_for=10**400).startswith("segment_retry_for ")


def test_the_text_says_what_it_must_be_and_what_it_was():
    assert refusal(segment_flush_at=0) == "segment_flush_at must be at least 1, not 0"
    assert refusal(segment_max_batch_bytes=512_000) == (
        "segment_max_batch_bytes must be from 33,000 to 500,000, not 512000"
    )
    assert refusal(segment_gzip="no") == "segment_gzip must be True or False, not 'no'"


@pytest.mark.parametrize("sources", [None, [], "a", 5, [{"write_key": "k"}]])
def test_sources_must_be_a_mapping(sources):
    assert "segment_sources must be a mapping such as" in refusal(segment_sources=sources)


@pytest.mark.parametrize("entry", [None, [], "key", 5])
def test_a_source_must_be_a_mapping(entry):
    text = refusal(segment_sources={"a": entry})
    assert text == "segment_sources['a'] must be a mapping of settings"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "{a}", "a:b", "ä", "x" * 65, 5, None, "a\n"])
def test_a_source_must_have_a_plain_name(name):
    assert f"segment_sources: {name!r} must be a name" in refusal(segment_sources={name: {}})


def test_source_names():
    for name in ("a", "A-1_b.c", "x" * 64):
        assert source(name, segment_sources={name: {}}).name == name


def test_the_lease_is_longer_than_the_timeout():
    text = refusal(segment_lease=15)
    assert "segment_lease (15 s) of source 'default' must be longer than segment_timeout" in text
    assert "of source 'm'" in refusal(segment_sources={"m": {"timeout": 200}})
    assert "of source 'm'" in refusal(segment_sources={"m": {"lease": 10}})
    assert source(segment_lease=15.5).lease == 15.5
    assert source("m", segment_sources={"m": {"timeout": 200, "lease": 201}}).timeout == 200


def test_settings_cannot_be_changed():
    one = source()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.flush_at = 5
