"""``celery_segment.analytics`` on a real Redis."""

from __future__ import annotations

import copy
import json
import threading
import time
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from segment.analytics import Client as SegmentsClient

from authorization import CLIENT, KEY_ID, AuthorizationServer
from celery_segment import Analytics, BufferFull, BufferUnavailable, ConfigurationError, analytics
from celery_segment.analytics import Client
from celery_segment.messages import LIBRARY
from celery_segment.testing import SegmentServer
from support import WRITE_KEY, buffer_of, content_of, wait_until

NOON = datetime(2026, 11, 23, 12, 0, 0, 123_456, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _defaults(monkeypatch):
    """The module as it is when it is imported."""
    for name, value in vars(analytics).items():
        if name[0] != "_":
            monkeypatch.setattr(analytics, name, value)


@pytest.fixture
def stored(app):
    """Gives the messages that wait, as they are stored."""

    def read(source="default"):
        buffer = buffer_of(app, source)
        buffer.admin.mark()
        return [
            json.loads(data)
            for batch in buffer.claim(100)
            for data in buffer.admin.messages(batch.id)
        ]

    return read


def as_stored(message):
    """A returned message, less what the request leaves out."""
    return json.loads(json.dumps({k: v for k, v in message.items() if v not in (None, {})}))


# Each with every argument that it takes, by position, and with as few as it may.
EVERYTHING = ({"ip": "1.2.3.4"}, NOON, "anonymous", {"All": False}, "message-1")
CALLS = [
    ("identify", ("u", {"plan": "pro"}, *EVERYTHING)),
    ("identify", ("u",)),
    ("track", ("u", "E", {"n": 1, "list": [1, {"a": None}]}, *EVERYTHING)),
    ("track", (157963456373623802, "E")),
    ("group", ("u", "g", {"size": 5}, *EVERYTHING)),
    ("group", ("u", 7)),
    ("page", ("u", "Docs", "Start", {"url": "/"}, *EVERYTHING)),
    ("page", ("u",)),
    ("screen", ("u", "Docs", "Start", {"url": "/"}, *EVERYTHING)),
    ("screen", ("u",)),
    ("alias", ("before", "u", {"ip": "1.2.3.4"}, NOON, {"All": False}, "message-1")),
    ("alias", (1, 2)),
]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_a_message_is_segments_but_for_the_library_the_time_and_ids_as_text(
    name, arguments, stored
):
    success, message = getattr(analytics, name)(*arguments)
    assert success is True
    assert stored() == [as_stored(message)]

    # Which changes the caller's context.
    _, theirs = getattr(SegmentsClient("k", send=False), name)(*copy.deepcopy(arguments))
    assert message["context"].pop("library") == LIBRARY
    assert theirs["context"].pop("library")["name"] == "analytics-python"
    ours_at, theirs_at = (
        datetime.fromisoformat(m.pop("timestamp")[:23]) for m in (message, theirs)
    )
    assert abs((ours_at - theirs_at).total_seconds()) < 1
    if "message-1" not in arguments:
        assert message.pop("messageId") != theirs.pop("messageId")
    if name == "alias":
        theirs["anonymousId"] = None
    for id_ in {"groupId", "previousId"} & theirs.keys():
        theirs[id_] = str(theirs[id_])
    assert message == theirs


def test_the_values_of_the_message_are_the_callers(app, stored):
    traits = {"born": date(1981, 2, 2), "score": Decimal("1.10")}
    _, message = Client(WRITE_KEY, app=app).identify("u", traits)
    assert message["traits"] == traits
    assert stored()[0]["traits"] == {"born": "1981-02-02", "score": 1.10}


def test_the_module_makes_one_client_of_its_settings(app):
    analytics.write_key = WRITE_KEY
    analytics.upload_size = 2_500
    assert analytics.default_client is None
    analytics.track("u", "E")
    client = analytics.default_client
    assert (client.write_key, client.upload_size, client.source) == (WRITE_KEY, 2_500, None)
    analytics.identify("u")
    assert analytics.default_client is client
    assert Analytics(app=app).stats().accepted == 2
    analytics.join()
    assert analytics.flush.__doc__ == Client.flush.__doc__


def test_without_a_key_the_module_uses_the_default_source(app):
    analytics.page("u")
    assert analytics.default_client.source == "default"
    assert Analytics(app=app).stats().accepted == 1


def test_each_source_is_found_by_its_key_or_its_name(make_app):
    app = make_app(segment_sources={"marketing": {"write_key": "m4rk3t1ng"}})
    Client(WRITE_KEY).track("u", "E")
    Client("m4rk3t1ng").track("u", "E")
    Client(source="marketing").track("u", "E")
    assert Analytics(app=app).stats().accepted == 1
    assert Analytics("marketing", app=app).stats().accepted == 2
    with pytest.raises(ConfigurationError, match="not configured for any source"):
        Client("0th3r").track("u", "E")


def test_the_key_goes_nowhere(app, redis, caplog):
    caplog.set_level("DEBUG")
    _, message = Client(WRITE_KEY, debug=False, app=app, timeout=3).track("u", "E")
    assert "timeout (set segment_timeout" in caplog.text
    kept = b"".join(key + content_of(redis, key) for key in redis.keys("*"))
    assert b"messageId" in kept
    for place in (caplog.text, repr(message), kept.decode(errors="replace")):
        assert WRITE_KEY not in place


@pytest.mark.usefixtures("app")
def test_no_thread_is_started():
    before = threading.enumerate()
    client = Client(WRITE_KEY)
    client.track("u", "E")
    client.flush(timeout=0)
    assert threading.enumerate() == before
    assert not client.consumers


# ---------------------------------------------------------------- not stored


@pytest.fixture
def errors():
    return []


@pytest.fixture
def note(errors):
    return lambda error, messages: errors.append((error, messages))


def test_a_full_queue_returns_false_and_tells(app, errors, note):
    client = Client(WRITE_KEY, max_queue_size=2, on_error=note)
    assert [client.track("u", f"E{n}")[0] for n in range(4)] == [True, True, False, False]
    assert Analytics(app=app).stats().accepted == 2
    assert [messages[0]["event"] for _, messages in errors] == ["E2", "E3"]
    assert all(isinstance(error, BufferFull) for error, _ in errors)
    assert (client.queue.qsize(), client.queue.full(), client.queue.maxsize) == (2, True, 2)


@pytest.mark.parametrize("bound", [0, -1, Client.max_queue_size])
def test_neither_segments_default_nor_zero_is_a_bound(app, bound, monkeypatch):
    client = Client(WRITE_KEY, max_queue_size=bound, app=app)
    # Nor does it cost a round trip.
    monkeypatch.setattr(Client, "waiting", None)
    assert client.track("u", "E")[0]


def test_a_redis_that_is_away_returns_false_and_tells(make_app, errors, note):
    make_app(segment_redis_url="redis://127.0.0.1:1/0")
    for client in (Client(WRITE_KEY, on_error=note), Client(WRITE_KEY, max_queue_size=1)):
        success, message = client.track("u", "E")
        assert (success, message["event"]) == (False, "E")
    ((error, messages),) = errors
    assert isinstance(error, BufferUnavailable)
    assert messages[0]["event"] == "E"


@pytest.mark.usefixtures("app")
def test_on_error_may_raise_what_it_gets():
    def strictly(error, _):
        raise error

    client = Client(WRITE_KEY, max_queue_size=1, on_error=strictly)
    client.track("u", "E")
    with pytest.raises(BufferFull):
        client.track("u", "E")


def test_what_spills_is_accepted(make_app, tmp_path):
    make_app(
        segment_redis_url="redis://127.0.0.1:1/0",
        segment_on_unavailable="spill",
        segment_spill_path=str(tmp_path / "spill"),
    )
    assert Client(WRITE_KEY, max_queue_size=1).track("u", "E")[0]


def test_the_message_is_what_the_hook_made_of_it(make_app, redis):
    def redact(message):
        if message["event"] == "secret":
            return None
        return {**message, "properties": {"card": "***"}}

    app = make_app(segment_before_send=redact, segment_context={"app": "shop"})
    client = Client(WRITE_KEY)
    success, message = client.track("u", "E", {"card": "4111"})
    assert success
    assert (message["properties"], message["anonymousId"]) == ({"card": "***"}, None)
    assert message["context"] == {"app": "shop", "library": LIBRARY}
    assert client.track("u", "secret")[0]
    assert Analytics(app=app).stats().accepted == 1
    assert redis.keys("{segment:default}*")


# ---------------------------------------------------------------- waiting


@pytest.mark.usefixtures("app")
def test_a_flush_is_bounded_and_says_what_remains(caplog):
    client = Client(WRITE_KEY)
    client.track("u", "E")
    began = time.monotonic()
    assert client.flush(timeout=0.2) == 1
    assert 0.2 <= time.monotonic() - began < 2
    assert "messages that remain after 0.2 s, and stay stored: 1" in caplog.text
    assert not client.queue.empty()


@pytest.mark.usefixtures("app")
def test_a_synchronous_call_waits_as_long_as_its_timeout(caplog):
    client = Client(WRITE_KEY, sync_mode=True, timeout=0.2)
    began = time.monotonic()
    assert client.track("u", "E")[0], "it is stored, and will be delivered"
    assert 0.2 <= time.monotonic() - began < 2
    assert "and stay stored: 1" in caplog.text


def test_a_synchronous_call_waits_for_no_redis_that_went_away(redis_server, make_app, monkeypatch):
    app = make_app(segment_redis_timeout=0.1)
    client = Client(WRITE_KEY, sync_mode=True, app=app)
    flush = Client.flush

    def flush_without_redis(self, timeout):
        redis_server.pause()
        return flush(self, timeout)

    monkeypatch.setattr(Client, "flush", flush_without_redis)
    try:
        assert client.track("u", "E")[0]
    finally:
        redis_server.resume()

    def accepted():
        try:
            return Analytics(app=app).stats().accepted
        except BufferUnavailable:  # Redis is left alone for a moment
            return None

    assert wait_until(accepted) == 1


def test_an_eager_application_delivers_before_the_call_returns(make_app, server):
    make_app(task_always_eager=True)
    client = Client(WRITE_KEY)
    ids = [client.track("u", f"E{n}")[1]["messageId"] for n in range(3)]
    assert list(server.received) == ids
    assert client.queue.empty()


def test_credentials_of_oauth_given_to_a_client_deliver_where_they_are_the_sources(make_app, redis):
    with AuthorizationServer() as auth, SegmentServer(check_token=auth.check_token) as server:
        given = {
            "oauth_client_id": CLIENT,
            "oauth_client_key": auth.pem(),
            "oauth_key_id": KEY_ID,
            "oauth_auth_server": auth.url,
        }
        app = make_app(segment_oauth=auth.oauth(), segment_host=server.url)
        client = Client(WRITE_KEY, **given, app=app)
        assert client.track("u", "E")[0]
        assert Analytics(app=app).deliver(timeout=10) == 0
        assert [r.scheme for r in server.requests] == ["bearer"]
        other = Client(WRITE_KEY, **{**given, "oauth_key_id": "other"}, app=app)
        with pytest.raises(ConfigurationError, match="oauth_key_id"):
            other.track("u", "E")
    assert not [key for key in redis.keys("*") if b"PRIVATE" in content_of(redis, key)]
