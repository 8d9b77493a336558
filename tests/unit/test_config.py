"""Settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import ssl
import traceback
from pathlib import Path

import msgspec
import pytest
from celery import Celery
from celery.app.utils import bugreport
from kombu.utils import json as celery_json

from celery_segment import ConfigurationError
from celery_segment.config import Settings, Source, WriteKey, declared, load, settings_of

SECRET = "s3cretwr1tek3y"
PASSWORD = "p4ssw0rd"

#: DESIGN.md, section 2: what is there today.
DEFAULTS = {
    "write_key": None,
    "host": "https://api.segment.io",
    "allow_http": False,
    "enabled": True,
    "flush_at": 20,
    "flush_interval": 10.0,
    "max_batch_bytes": 500_000,
    "max_batch_messages": 2_500,
    "max_buffer_bytes": None,
    "on_full": "raise",
    "on_unavailable": "raise",
    "context": None,
    "integrations": None,
    "before_send": None,
    "on_delivered": None,
    "on_failed": None,
    "gzip": True,
    "timeout": 15.0,
    "proxies": None,
    "ca_bundle": None,
    "max_retries": 10,
    "retry_for": 12 * 3600.0,
    "max_inflight": 32,
    "lease": 120.0,
    "max_dead_bytes": 100_000_000,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave the machine's own configuration out."""
    for name in ("SEGMENT_WRITE_KEY", "CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(name, raising=False)


def application(**conf):
    app = Celery("tests", set_as_current=False)
    app.conf.update({"broker_url": "redis://localhost:6379/0", **conf})
    return app


def configured(environ=(), **conf):
    return load(application(**conf).conf, dict(environ))


def source(name="default", **conf):
    return configured(**conf).source(name)


def refusal(**conf):
    with pytest.raises(ConfigurationError) as caught:
        configured(**conf)
    return str(caught.value)


# ---------------------------------------------------------------- defaults and inheritance


def test_defaults():
    settings = configured()
    assert list(settings.sources) == ["default"]
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.redis_timeout == 1.0
    assert settings.trusted_proxies == 0
    assert settings.set_anonymous_id is False
    assert settings.batch_requests is False
    assert settings.tick is True
    default = settings.source("default")
    assert {name: getattr(default, name) for name in DEFAULTS} == DEFAULTS
    assert default.name == "default"


def test_every_setting_is_declared_once_with_a_line_of_documentation():
    assert set(DEFAULTS) <= set(declared(Source))
    assert not set(declared(Source)) & set(declared(Settings))
    for cls in (Source, Settings):
        for name, field in declared(cls).items():
            doc = field.metadata["doc"]
            assert doc.endswith("."), name
            assert "\n" not in doc, name
            assert field.metadata["show"], name


def test_a_source_inherits_the_applications_values_and_overrides_them():
    settings = configured(
        segment_write_key="app-key",
        segment_flush_at=5,
        segment_gzip=False,
        segment_sources={
            "marketing": {"write_key": "m-key", "flush_at": 50},
            "product": {"write_key": "p-key", "host": "https://events.eu1.segmentapis.com"},
            "keyless": {},
        },
    )
    default, marketing, product, keyless = (
        settings.source(name) for name in ("default", "marketing", "product", "keyless")
    )
    assert [s.flush_at for s in (default, marketing, product, keyless)] == [5, 50, 5, 5]
    assert not any(s.gzip for s in settings.sources.values())
    assert product.host == "https://events.eu1.segmentapis.com"
    assert marketing.host == default.host == "https://api.segment.io"
    assert default.write_key.reveal() == "app-key"
    assert marketing.write_key.reveal() == "m-key"
    # Another source's events never go out under the default's key.
    assert keyless.write_key is None


def test_the_default_source_may_be_configured_among_the_sources():
    settings = configured(
        segment_write_key="app-key", segment_sources={"default": {"flush_at": 7}, "b": {}}
    )
    assert settings.source("default").flush_at == 7
    assert settings.source("default").write_key.reveal() == "app-key"
    assert settings.source("b").flush_at == 20
    own = configured(segment_write_key="a", segment_sources={"default": {"write_key": "own"}})
    assert own.source("default").write_key.reveal() == "own"


def test_every_setting_of_a_source_may_be_given_to_one_source(tmp_path):
    given = {
        "write_key": "k",
        "host": "http://example.com",
        "allow_http": True,
        "enabled": False,
        "flush_at": 1,
        "flush_interval": 0.1,
        "max_batch_bytes": 33_000,
        "max_batch_messages": 1,
        "max_buffer_bytes": 100_000,
        "on_full": "drop",
        "on_unavailable": "drop",
        "context": {"app": {"name": "shop"}},
        "integrations": {"All": False, "Vero": True},
        "before_send": "json.loads",
        "on_delivered": "shop.tasks.delivered",
        "on_failed": print,
        "gzip": False,
        "timeout": 0.5,
        "proxies": {"https": "http://proxy:3128"},
        "ca_bundle": tmp_path,
        "max_retries": 0,
        "retry_for": 0,
        "max_inflight": 1,
        "lease": 1,
        "max_dead_bytes": 1_000_000,
    }
    assert set(given) == set(DEFAULTS)
    settings = configured(segment_sources={"a": given})
    one = settings.source("a")
    expected = {**given, "write_key": WriteKey("k"), "ca_bundle": str(tmp_path)}
    expected["before_send"] = json.loads
    assert {name: getattr(one, name) for name in given} == expected
    other = settings.source("default")
    assert {name: getattr(other, name) for name in DEFAULTS} == DEFAULTS


def test_an_unknown_source_is_refused_with_those_there_are():
    settings = configured(segment_sources={"b": {}, "a": {}})
    for name in ("marketing", "", None, 5, ["a"]):
        with pytest.raises(ConfigurationError, match=r"configured: a, b, default"):
            settings.source(name)


def test_settings_are_read_once_per_application():
    app = application(segment_flush_at=3)
    assert settings_of(app) is settings_of(app)
    assert settings_of(app).source("default").flush_at == 3
    assert settings_of(application()).source("default").flush_at == 20


# ---------------------------------------------------------------- the write key


@pytest.mark.parametrize(
    ("environ", "conf", "key"),
    [
        ({}, {}, None),
        ({"SEGMENT_WRITE_KEY": "env"}, {}, "env"),
        ({"SEGMENT_WRITE_KEY": ""}, {}, None),
        ({"SEGMENT_WRITE_KEY": " env\n"}, {}, "env"),
        ({"SEGMENT_WRITE_KEY": "env"}, {"segment_write_key": "conf"}, "conf"),
        ({"SEGMENT_WRITE_KEY": "env"}, {"segment_write_key": None}, "env"),
        (
            {"SEGMENT_WRITE_KEY": "env"},
            {"segment_sources": {"default": {"write_key": "own"}}},
            "own",
        ),
    ],
)
def test_where_the_default_write_key_comes_from(environ, conf, key):
    found = configured(environ, **conf).source("default").write_key
    assert (found and found.reveal()) == key


def test_the_environments_key_is_read_through_the_application(monkeypatch):
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "env")
    settings = settings_of(application(segment_sources={"other": {}}))
    assert settings.source("default").write_key.reveal() == "env"
    assert settings.source("other").write_key is None


@pytest.mark.parametrize("value", ["", "  ", 5, b"key", ["k"], "with:colon", "schlüssel", "a\nb"])
def test_a_bad_write_key_is_refused_without_showing_it(value):
    for text in (
        refusal(segment_write_key=value),
        refusal(segment_sources={"a": {"write_key": value}}),
    ):
        assert "write_key must be" in text
        assert "colon" not in text or "without a colon" in text
        for part in ("with:", "schl", "a\nb", "b'key'"):
            assert part not in text


def test_the_write_key_shows_itself_to_nobody():
    settings = configured(
        segment_write_key=SECRET, segment_sources={"other": {"write_key": SECRET + "2"}}
    )
    key = settings.source("default").write_key
    assert key.reveal() == SECRET
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.Logger("test")  # noqa: LOG001 - outside the tree
    logger.addHandler(handler)
    things = (key, settings, *settings.sources.values(), settings.sources)
    for thing in things:
        logger.warning("%s %r %s", thing, thing, [thing])
        for text in (repr(thing), str(thing), f"{thing}", f"{thing!r}", f"{thing!a}"):
            assert SECRET not in text
    assert SECRET not in log.getvalue()
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize(
    "leave",
    [
        pickle.dumps,
        copy.deepcopy,
        json.dumps,
        celery_json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
    ],
    ids=lambda f: f"{f.__module__}.{f.__qualname__}",
)
def test_the_write_key_does_not_leave_the_process(leave):
    key = WriteKey(SECRET)
    one = source(segment_write_key=SECRET)
    for thing in (key, {"k": key}, one, [one]):
        with pytest.raises(TypeError) as caught:
            leave(thing)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_write_keys_are_equal_by_value():
    assert WriteKey("a") == WriteKey("a") != WriteKey("b")
    assert len({WriteKey("a"), WriteKey("a"), WriteKey("b")}) == 2
    assert WriteKey("a") != "a"


def test_celery_censors_the_write_keys():
    app = application(
        segment_write_key=SECRET,
        segment_sources={"a": {"write_key": SECRET + "a"}, "b": {"write_key": SECRET + "b"}},
    )
    settings_of(app)
    for text in (app.conf.humanize(), bugreport(app), repr(app.conf.table())):
        assert SECRET not in text
        assert "segment_write_key" in text


def test_passwords_are_not_shown():
    settings = configured(
        segment_redis_url=f"redis://user:{PASSWORD}@h/0",
        segment_proxies={"https": f"http://user:{PASSWORD}@proxy"},
    )
    assert PASSWORD in settings.redis_url
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in repr(settings.source("default"))
    for conf in (
        {"segment_host": f"https://user:{PASSWORD}@example.com"},
        {"segment_host": f"ftp://user:{PASSWORD}@example.com"},
        {"segment_host": f"https://user:{PASSWORD}@example.com:port"},
        {"segment_redis_url": f"http://user:{PASSWORD}@h"},
        {"segment_redis_url": f"redis://user:{PASSWORD}@h:port"},
        {"segment_proxies": {"https": f"http://user:{PASSWORD}@proxy", "http": None}},
        {"segment_proxies": f"http://user:{PASSWORD}@proxy"},
        {"segment_sources": {"a": {"host": f"https://user:{PASSWORD}@example.com"}}},
    ):
        assert PASSWORD not in refusal(**conf)


# ---------------------------------------------------------------- what is refused


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
    assert text == f"{given} is not a setting; did you mean {nearest}?"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("write_kee", "write_key"), ("flush_att", "flush_at"), ("hots", "host")],
)
def test_an_unknown_setting_of_a_source_is_refused_with_the_nearest(given, nearest):
    text = refusal(segment_sources={"m": {given: 5}})
    where = "segment_sources['m']."
    assert text == f"{where}{given} is not a setting; did you mean {where}{nearest}?"


@pytest.mark.parametrize("name", ["name", "redis_url", "redis_timeout", "tick", "sources", 5, None])
def test_what_is_not_a_sources_is_refused_there(name):
    text = refusal(segment_sources={"m": {name: 5}})
    assert text.startswith(f"segment_sources['m'].{name} is not a setting")


def test_whatever_is_unknown_is_refused():
    for name in ("segment_", "segment_name", "segment_x" * 30):
        assert f"{name} is not a setting; did you mean segment_" in refusal(**{name: 1})


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
    "on_full": [None, "spill", "Raise", True, 1, ["raise"]],
    "on_unavailable": [None, "ignore", "", False, {"raise"}],
    "context": [5, [], "ip", {1: "a"}],
    "integrations": [5, ["All"], "All", {None: True}],
    "before_send": [5, "", "nowhere.hook", "json.nothing", "json.__name__", ["json.loads"]],
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
    "redis_url": [*NO_URL, "localhost", "http://h", "amqp://h", "redis://h:port", "redis://h h"],
    "redis_timeout": [*NO_NUMBER, 0, 61, NAN, INF],
    "spill_path": ["/nowhere/spill", "", 5, b"/tmp/spill"],
    "max_spill_bytes": [*NO_WHOLE_NUMBER, 0, 99_999],
    "trusted_proxies": [*NO_WHOLE_NUMBER, -1, 11],
    "set_anonymous_id": NO_TRUTH,
    "batch_requests": NO_TRUTH,
    "tick": NO_TRUTH,
}


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
        ("timeout", 0.1, 100),
        ("max_retries", 0, 10**9),
        ("retry_for", 0, float("inf")),
        ("max_inflight", 1, 1_000),
        ("lease", 20, 86_400),
        ("max_dead_bytes", 1_000_000, 10**15),
    ],
)
def test_the_bounds_themselves_are_allowed(name, least, most):
    for value in (least, most):
        assert getattr(source(**{f"segment_{name}": value}), name) == value


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


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("https://api.segment.io", "https://api.segment.io"),
        ("https://api.segment.io/", "https://api.segment.io"),
        ("https://api.segment.io/v1", "https://api.segment.io"),
        ("https://api.segment.io/v1/", "https://api.segment.io"),
        ("https://api.segment.io//", "https://api.segment.io"),
        ("https://api.segment.io/v1/batch", "https://api.segment.io"),
        ("https://events.eu1.segmentapis.com/v1", "https://events.eu1.segmentapis.com"),
        ("api.segment.io", "https://api.segment.io"),
        ("api.segment.io/v1/", "https://api.segment.io"),
        ("  https://api.segment.io\n", "https://api.segment.io"),
        ("https://gateway.example:8443/segment/v1/", "https://gateway.example:8443/segment"),
        ("https://gateway.example/v12", "https://gateway.example/v12"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://LOCALHOST", "http://LOCALHOST"),
    ],
)
def test_hosts(given, host):
    assert source(segment_host=given).host == host
    assert source("m", segment_sources={"m": {"host": given}}).host == host


@pytest.mark.parametrize(
    "host",
    [
        "http://api.segment.io",
        "HTTP://api.segment.io",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://1270.0.1",
    ],
)
def test_plain_http_stays_on_this_machine_unless_allowed(host):
    text = refusal(segment_host=host)
    assert "unencrypted" in text
    assert "segment_allow_http" in text
    assert source(segment_host=host, segment_allow_http=True).host.startswith("http://")
    assert "of source 'm'" in refusal(segment_sources={"m": {"host": host}})
    assert source("m", segment_sources={"m": {"host": host, "allow_http": True}})


@pytest.mark.parametrize(
    "host",
    [
        "https://key@api.segment.io",
        "https://k:@h",
        "https://:p@h",
        "http://localhost@h",
        "k@h",
        "@h",
    ],
)
def test_credentials_in_a_host_are_refused(host):
    assert "without credentials" in refusal(segment_host=host)


# ---------------------------------------------------------------- Redis


@pytest.mark.parametrize(
    ("broker", "redis"),
    [
        ("redis://", "redis://"),
        ("redis://h:6380/3", "redis://h:6380/3"),
        ("redis://user:p%40ss@h/3", "redis://user:p%40ss@h/3"),
        ("rediss://h/0?ssl_cert_reqs=required", "rediss://h/0?ssl_cert_reqs=required"),
        # redis-py refuses the names that kombu's documentation uses
        ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?a=1&ssl_cert_reqs=CERT_NONE", "rediss://h/0?a=1&ssl_cert_reqs=none"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+socket:///run/r.sock?virtual_host=3", "unix:///run/r.sock?db=3"),
        ("redis+socket:///run/r.sock?virtual_host=/3", "unix:///run/r.sock?db=3"),
        ("redis+socket://:pw@/run/r.sock", "unix://:pw@/run/r.sock?db=0"),
        (["redis://a/1", "redis://b/1"], "redis://a/1"),
        (("redis://a/1", "redis://b/1"), "redis://a/1"),
        ("redis://a/1;redis://b/1", "redis://a/1"),
        ("amqp://guest@h//", ""),
        ("sqs://", ""),
        ("memory://", ""),
        ("sentinel://h:26379", ""),
        (["amqp://h", "redis://h"], ""),
    ],
)
def test_the_buffer_lies_in_the_broker_when_that_is_redis(broker, redis):
    assert configured(broker_url=broker).redis_url == redis


def test_spilling_needs_a_file(tmp_path):
    assert "segment_spill_path" in refusal(segment_on_unavailable="spill")
    assert "'m'" in refusal(segment_sources={"m": {"on_unavailable": "spill"}})
    path = tmp_path / "spill"
    assert configured(segment_on_unavailable="spill", segment_spill_path=path).spill_path == str(
        path
    )


def test_the_brokers_tls_options_are_the_buffers():
    tls = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "/etc/my ca.pem",
        "ssl_keyfile": None,
    }
    expected = "rediss://h/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fetc%2Fmy+ca.pem"
    for broker in ("redis://h/0", "rediss://h/0"):
        assert configured(broker_url=broker, broker_use_ssl=tls).redis_url == expected
    with_query = configured(broker_url="redis://h/0?a=1", broker_use_ssl=tls).redis_url
    assert with_query == expected.replace("?", "?a=1&")
    assert configured(broker_url="redis://h/0", broker_use_ssl=True).redis_url == "rediss://h/0"


def test_a_redis_of_ones_own():
    url = "redis://elsewhere:6379/1"
    assert configured(segment_redis_url=url).redis_url == url
    assert configured(broker_url="amqp://h", segment_redis_url=url).redis_url == url
    assert configured(segment_redis_url=None).redis_url == "redis://localhost:6379/0"
    unix = "unix:///run/redis.sock?db=1"
    assert configured(segment_redis_url=unix).redis_url == unix


def test_the_brokers_write_url_is_the_one():
    conf = {"broker_write_url": "redis://write/1", "broker_read_url": "redis://read/1"}
    assert configured(**conf).redis_url == "redis://write/1"


def test_the_environments_broker_is_the_one(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://env/9")
    assert configured().redis_url == "redis://env/9"


# ---------------------------------------------------------------- Django's namespace


class DjangoSettings:
    CELERY_BROKER_URL = "redis://django/5"
    CELERY_SEGMENT_FLUSH_AT = 7
    CELERY_SEGMENT_SOURCES = {"marketing": {"write_key": SECRET}}  # noqa: RUF012 - as in Django
    # Another library's.
    SEGMENT_WRITE_KEY = "of analytics-python"
    SEGMENT_DEBUG = True


def django_application(**more):
    app = Celery("tests", set_as_current=False)
    app.config_from_object(type("DjangoSettings", (DjangoSettings,), more), namespace="CELERY")
    return app


def test_the_namespace_of_django():
    settings = load(django_application().conf, {})
    assert settings.redis_url == "redis://django/5"
    assert settings.source("default").flush_at == 7
    assert settings.source("marketing").write_key.reveal() == SECRET
    assert settings.source("default").write_key is None


def test_the_namespace_of_django_is_checked_too():
    with pytest.raises(ConfigurationError, match="segment_flush_att is not a setting"):
        load(django_application(CELERY_SEGMENT_FLUSH_ATT=1).conf, {})
    with pytest.raises(ConfigurationError, match="segment_flush_at must be at least 1, not 0"):
        load(django_application(CELERY_SEGMENT_FLUSH_AT=0).conf, {})


def test_what_is_set_on_the_application_itself_wins_over_the_namespace():
    app = django_application()
    app.conf.segment_flush_at = 9
    app.conf.segment_gzip = False
    assert load(app.conf, {}).source("default").flush_at == 9
    assert load(app.conf, {}).source("default").gzip is False


def test_a_module_is_a_configuration_too(tmp_path, monkeypatch):
    (tmp_path / "its_celeryconfig.py").write_text(
        "SEGMENT = 'a constant'\nbroker_url = 'redis://module/2'\nsegment_flush_at = 4\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("tests", set_as_current=False)
    app.config_from_object("its_celeryconfig")
    settings = load(app.conf, {})
    assert (settings.redis_url, settings.source("default").flush_at) == ("redis://module/2", 4)


def test_a_ca_bundle_is_an_existing_path(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    for path in (bundle, str(bundle), tmp_path):
        assert source(segment_ca_bundle=path).ca_bundle == str(Path(path))
