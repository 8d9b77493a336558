"""What the arguments of ``celery_segment.analytics.Client`` mean. No server."""

from __future__ import annotations

import inspect
import logging
import pickle
from dataclasses import fields

import pytest
import segment.analytics
from celery import Celery

from celery_segment import ConfigurationError, ValidationError, analytics
from celery_segment.analytics import Client
from celery_segment.analytics.source import (
    OAUTH_FIELDS,
    WORKERS_SETTINGS,
    check_oauth,
    choose,
    without_effect,
)
from celery_segment.config import OAuth, Source, declared, load

PEM = "-----BEGIN PRIVATE KEY-----\nb64\n-----END PRIVATE KEY-----\n"
NO_KEY = {"segment_sources": {"marketing": {}}}
KEYS = {
    "segment_write_key": "k3y",
    "segment_sources": {"marketing": {"write_key": "m4rk3t1ng"}, "open": {}},
}


def chosen(conf, name=None, write_key=None):
    return choose(load(conf, {}), name, write_key).name


@pytest.mark.parametrize(
    ("conf", "name", "write_key", "source"),
    [
        (KEYS, None, "k3y", "default"),
        (KEYS, None, "m4rk3t1ng", "marketing"),
        (KEYS, None, " m4rk3t1ng\n", "marketing"),
        (KEYS, "marketing", None, "marketing"),
        (KEYS, "marketing", "m4rk3t1ng", "marketing"),
        (KEYS, "open", "whatever", "open"),
        (KEYS, None, None, "default"),
        (KEYS, None, "", "default"),
        (NO_KEY, "marketing", "whatever", "marketing"),
        (NO_KEY, None, None, "default"),
        ({}, None, "whatever", "default"),
    ],
)
def test_the_source_is_the_one_that_is_named_or_has_the_key(conf, name, write_key, source):
    assert chosen(conf, name, write_key) == source


@pytest.mark.parametrize(
    ("conf", "name", "write_key", "text"),
    [
        (KEYS, None, "0th3r", "not configured for any source"),
        (KEYS, "marketing", "k3y", "not that of source 'marketing'"),
        (KEYS, "nowhere", None, "'nowhere' is not configured"),
        # Nothing here tells which of the two it belongs to.
        (NO_KEY, None, "0th3r", "name the source instead"),
    ],
)
def test_a_key_that_contradicts_the_configuration_is_refused(conf, name, write_key, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        chosen(conf, name, write_key)
    assert not any(key in str(caught.value) for key in ("k3y", "m4rk3t1ng", "0th3r"))


def test_a_key_that_decides_nothing_is_warned_of_and_not_shown(caplog):
    chosen({}, None, "0th3r")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "use Client(source='default') instead" in record.getMessage()
    assert "0th3r" not in record.getMessage()


# ---------------------------------------------------------------- options


def test_the_settings_that_options_are_led_to_exist():
    assert set(WORKERS_SETTINGS.values()) <= set(declared(Source))
    assert {*OAUTH_FIELDS} == {f.name for f in fields(Client) if f.name.startswith("oauth_")}
    assert {*OAUTH_FIELDS.values()} == {f.name for f in fields(OAuth)}


@pytest.mark.parametrize(
    ("given", "source", "unheeded"),
    [
        ({"timeout": 10}, {}, ["timeout (set segment_timeout"]),
        ({"timeout": 10}, {"timeout": 10.0}, []),
        ({"gzip": True}, {}, []),
        ({"host": "https://api.segment.io/"}, {}, []),
        ({"host": "eu.example/v1"}, {"host": "https://eu.example"}, []),
        ({"host": "https://eu.example"}, {}, ["host (set segment_host"]),
        ({"upload_size": 10}, {"max_batch_messages": 10}, []),
        ({"upload_size": 0}, {}, ["upload_size (set segment_max_batch_messages"]),
        ({"max_retries": 3}, {"max_retries": 3}, []),
        (
            {"max_total_backoff_duration": 5},
            {},
            ["max_total_backoff_duration (set segment_retry_for"],
        ),
        ({"proxies": {"https": "http://p:1"}}, {"proxies": {"https": "http://p:1"}}, []),
        ({"thread": 4, "write_key": "k3y", "debug": True, "max_queue_size": 5}, {}, []),
    ],
)
def test_an_option_that_the_workers_do_not_follow_is_told(given, source, unheeded):
    texts = list(without_effect(given, Source(name="default", **source)))
    assert [text.removesuffix(" instead)") for text in texts] == unheeded


OAUTH = {"client_id": "c", "private_key": PEM, "key_id": "k"}
SAME = {"oauth_client_id": "c", "oauth_client_key": PEM, "oauth_key_id": "k"}


def with_oauth(**more):
    return load({"segment_oauth": {**OAUTH, **more}}, {}).source("default")


def test_credentials_of_oauth_that_only_the_workers_have_are_led_to_them():
    texts = list(without_effect(SAME, Source(name="default")))
    assert texts == [f"{option} (set segment_oauth in the workers instead)" for option in SAME]
    check_oauth(SAME, Source(name="default"))


@pytest.mark.parametrize(
    "given",
    [
        SAME,
        {},
        {"oauth_client_key": PEM.replace("\n", "\r\n").encode()},
        {"oauth_auth_server": "https://oauth2.segment.io/", "oauth_scope": "tracking_api:write"},
    ],
)
def test_the_same_credentials_are_accepted(given):
    source = with_oauth()
    check_oauth(given, source)
    assert list(without_effect(given, source)) == []


@pytest.mark.parametrize(
    "given",
    [
        {"oauth_client_id": "s3cr3t"},
        {"oauth_key_id": "s3cr3t"},
        {"oauth_client_key": PEM + "s3cr3t"},
        {"oauth_auth_server": "https://s3cr3t"},
        {"oauth_scope": "s3cr3t"},
    ],
)
def test_other_credentials_are_refused_and_not_shown(given):
    (option,) = given
    with pytest.raises(ConfigurationError, match=f"the {option} given to Client is not") as caught:
        check_oauth(given, with_oauth())
    assert "s3cr3t" not in str(caught.value)


def test_a_key_is_compared_with_its_file_where_that_can_be_read(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(PEM)
    source = with_oauth(private_key=str(path))
    check_oauth({"oauth_client_key": PEM}, source)
    with pytest.raises(ConfigurationError, match="oauth_client_key"):
        check_oauth({"oauth_client_key": f"{PEM}x"}, source)
    path.unlink()
    check_oauth({"oauth_client_key": f"{PEM}x"}, source)


def test_the_signatures_are_segments():
    theirs = inspect.signature(segment.analytics.Client).parameters.values()
    ours = list(inspect.signature(Client).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(theirs)]] == [
        (p.name, p.default) for p in theirs
    ]
    assert [p.name for p in ours[len(theirs) :]] == ["source", "app"]
    assert {p.kind for p in ours[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_module_has_the_names_of_segments():
    theirs = {name: value for name, value in vars(segment.analytics).items() if name[0] != "_"}
    modules = {name for name, value in theirs.items() if inspect.ismodule(value)}
    assert theirs.keys() - modules - {"VERSION"} <= vars(analytics).keys()
    settings = {name: value for name, value in theirs.items() if not callable(value)}
    for name in settings.keys() - modules - {"VERSION"}:
        assert getattr(analytics, name) == settings[name], name


# ---------------------------------------------------------------- clients


@pytest.mark.parametrize("write_key", [None, 5, b"k3y"])
def test_a_client_wants_a_key_or_a_source(write_key):
    with pytest.raises(ConfigurationError, match="Client\\(source='default'\\)") as caught:
        Client(write_key)
    assert isinstance(caught.value, AssertionError), "as Segment's raises"
    assert Client(write_key, source="default").source == "default"


@pytest.mark.parametrize("name", ["max_total_backoff_duration", "max_rate_limit_duration"])
@pytest.mark.parametrize("seconds", [None, -1])
def test_durations_are_checked_as_segments_are(name, seconds):
    with pytest.raises(ValueError, match=name):
        Client("k3y", **{name: seconds})


def test_a_client_shows_no_key_and_does_not_travel():
    client = Client("s3cr3t", oauth_client_key="0th3rs3cr3t")
    assert "s3cr3t" not in repr(client) + str(client)
    with pytest.raises(TypeError, match="write key"):
        pickle.dumps(client)


@pytest.fixture
def nowhere():
    """An application without a Redis."""
    app = Celery("nowhere", broker="memory://", set_as_current=False)
    app.loader.import_module("celery_segment")
    yield app
    app.close()


def test_without_send_a_call_is_validated_and_needs_no_redis(nowhere):
    client = Client("k3y", send=False, app=nowhere)
    stored, message = client.track("u", "E", {"n": 1}, message_id="m")
    assert stored
    assert (message["userId"], message["properties"], message["messageId"]) == ("u", {"n": 1}, "m")
    with pytest.raises(ValidationError, match="event"):
        client.track("u")
    with pytest.raises(ValidationError, match="has no JSON form"):
        client.track("u", "E", {"o": object()})
    assert client.flush() == client.shutdown() == 0


def test_what_is_not_enabled_needs_no_redis_either(nowhere):
    nowhere.conf.segment_enabled = False
    client = Client("k3y", app=nowhere, max_queue_size=1, sync_mode=True)
    for _ in range(3):
        assert client.track("u", "E")[0]
    assert client.queue.empty()
    assert client.flush() == 0


def test_debug_turns_the_logs_on_once():
    log, handler = logging.getLogger("celery_segment"), logging.NullHandler()
    level, handlers = log.level, list(log.handlers)
    try:
        log.handlers.clear()
        for _ in range(2):
            Client("k3y", debug=True)
        assert log.level == logging.DEBUG
        assert [type(each) for each in log.handlers] == [logging.StreamHandler]
        Client("k3y", log_handler=handler)
        assert handler in log.handlers
    finally:
        log.setLevel(level)
        log.handlers[:] = handlers


def test_a_call_takes_no_other_source(nowhere):
    with pytest.raises(TypeError, match="source"):
        Client("k3y", send=False, app=nowhere).track("u", "E", source="marketing")
