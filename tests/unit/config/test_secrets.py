"""Where the write key comes from; it and the passwords are never shown."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import traceback

import msgspec
import pytest
from celery.app import utils
from celery.app.utils import bugreport
from kombu.utils import json as celery_json

from celery_segment import ConfigurationError
from celery_segment.config import WriteKey, mask_settings
from celery_segment.runtime import runtime_of
from configuring import PASSWORD, SECRET, application, configured, refusal, source


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
    settings = runtime_of(application(segment_sources={"other": {}})).settings
    assert settings.source("default").write_key.reveal() == "env"
    assert settings.source("other").write_key is None


@pytest.mark.parametrize("value", ["", "  ", 5, b"key", ["k"], "with:colon", "schlüssel", "a\nb"])
def test_a_bad_write_key_is_refused_without_showing_it(value):
    for text in (
        refusal(segment_write_key=value),
        refusal(segment_sources={"a": {"write_key": value}}),
    ):
        assert "write_key must be" in text
        assert text.count("colon") == text.count("without a colon")
        for part in ("with:", "schl", "a\nb", "b'key'"):
            assert part not in text


def test_a_write_key_that_is_too_long_is_refused_without_showing_it():
    assert configured({}, segment_write_key="k" * 1_000).source("default").write_key
    assert refusal(segment_write_key="k" * 1_001).startswith(
        "segment_write_key must have at most 1,000 characters: copy it from the source's settings"
    )
    assert "kk" not in refusal(segment_write_key="k" * 1_001)


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


def test_passwords_come_from_the_environment():
    environ = {
        "SEGMENT_REDIS_URL": f"redis://user:{PASSWORD}@elsewhere/0",
        "SEGMENT_PROXIES": f'{{"https": "http://user:{PASSWORD}@proxy"}}',
    }
    settings = configured(environ, segment_sources={"own": {"proxies": {"https": "http://own"}}})
    assert settings.redis_url == environ["SEGMENT_REDIS_URL"]
    assert settings.source("default").proxies == {"https": f"http://user:{PASSWORD}@proxy"}
    assert settings.source("own").proxies == {"https": "http://own"}
    given = configured(environ, segment_redis_url="redis://given/0", segment_proxies={})
    assert given.redis_url == "redis://given/0"
    assert given.source("default").proxies == {}


@pytest.mark.parametrize(
    "environ",
    [
        {"SEGMENT_REDIS_URL": f"http://user:{PASSWORD}@h"},
        {"SEGMENT_PROXIES": f"http://user:{PASSWORD}@proxy"},
        {"SEGMENT_PROXIES": f'["http://user:{PASSWORD}@proxy"]'},
        {"SEGMENT_PROXIES": "[" * 100_000 + PASSWORD},
    ],
    ids=["redis", "no JSON", "a list", "deep"],
)
def test_a_bad_value_of_the_environment_is_refused_without_showing_it(environ):
    with pytest.raises(ConfigurationError) as caught:
        configured(environ)
    (variable,) = environ
    assert str(caught.value).lower().startswith(f"{variable.lower()} must be ")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("name", ["segment_{}", "CELERY_SEGMENT_{}"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"redis://user:{PASSWORD}@h:1/0?password={PASSWORD}", "redis://********@h:1/0"),
        (f"redis://h:1/0?password={PASSWORD}", "redis://h:1/0"),
        (f"unix://:{PASSWORD}@/run/redis.sock", "unix://********@/run/redis.sock"),
        (
            f"sentinel://u:{PASSWORD}@h:1;sentinel://u:{PASSWORD}@i/0?master_name=m",
            "sentinel://********@h:1;sentinel://********@i/0",
        ),
        (
            f"redis+cluster://u:{PASSWORD}@h:1,i:2?password={PASSWORD}",
            "redis+cluster://********@h:1,i:2",
        ),
        (f"redis://[user:{PASSWORD}@h", "********"),
        (PASSWORD, "********"),
        (None, None),
    ],
)
def test_what_celery_shows_of_a_url(name, value, shown):
    mask_settings()  # once more changes nothing
    filtered = utils.filter_hidden_settings({name.format("redis_url"): value, "other": value})
    assert list(filtered.values()) == [shown, value]


def test_celery_censors_the_write_keys():
    app = application(
        segment_write_key=SECRET,
        segment_sources={"a": {"write_key": SECRET + "a"}, "b": {"write_key": SECRET + "b"}},
    )
    assert runtime_of(app).settings.sources
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
