"""What error trackers show of our frames: neither a key, nor a password, nor a message.

Trackers send the local variables of each frame of a traceback. Real failures are walked here as
they do it.
"""

from __future__ import annotations

import base64
import ssl
import traceback
import warnings

import pytest

from celery_segment import Analytics, BufferUnavailable, ConfigurationError, track
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis, Reply
from delivering import post
from frames import shown_by, shown_by_logging
from proxies import proxy
from support import WRITE_KEY, buffer_of, new_app

PAYLOAD, PASSWORD = "p4yl04d", "passw0rd"
LOGIN = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
PROXY_LOGIN = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
SEND, ANSWER = "HTTPConnection.send", "HTTPResponse.begin"
SECRETS = (WRITE_KEY, LOGIN, PASSWORD, PROXY_LOGIN, PAYLOAD)


class Unforeseen(BaseException):
    """What nothing catches, such as a soft time limit or the end of a greenlet."""


def check(shown):
    shown = list(shown)
    assert shown
    for place, text in shown:
        for secret in SECRETS:
            assert secret not in text, f"{secret} is in {place}: {text[:300]}"


@pytest.fixture
def broken(monkeypatch):
    """Have a request end in an exception that nothing foresees, at its deepest."""

    def fail(*_, **__):
        raise Unforeseen

    def breaks(where):
        monkeypatch.setattr(f"http.client.{where}", fail)

    return breaks


class TestTransport:
    @pytest.mark.parametrize("where", [SEND, ANSWER])
    def test_no_frame_of_a_request_shows_it(self, server, broken, where):
        broken(where)
        with pytest.raises(Unforeseen) as caught:
            post(server.url, segment_gzip=False)
        check(shown_by(caught.value, all_frames=True))
        # It still says where.
        functions = {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}
        assert {"_exchange", "urlopen"} <= functions

    def test_no_frame_shows_a_proxys_password(self, broken):
        broken(SEND)
        with proxy() as server, pytest.raises(Unforeseen) as caught:
            post("https://segment.invalid", segment_proxies={"https": server.url("http")})
        check(shown_by(caught.value, all_frames=True))

    def test_what_was_handled_before_keeps_its_frames(self, server, broken):
        broken(SEND)

        def fail(kept):
            raise ValueError(len(kept))

        kept = "the application's own"
        try:
            fail(kept)
        except ValueError as error:
            with pytest.raises(Unforeseen):
                post(server.url)
            *_, (deepest, _) = traceback.walk_tb(error.__traceback__)
            assert deepest.f_locals == {"kept": kept}

    def test_what_sentry_sends(self, server, broken):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks whether eventlet is at work
            import sentry_sdk
        events = []
        with sentry_sdk.isolation_scope() as scope:
            client = sentry_sdk.Client(
                "http://key@127.0.0.1:1/1",
                before_send=lambda event, _: events.append(event),
                default_integrations=False,
                max_request_body_size="always",
            )
            scope.set_client(client)
            broken(SEND)
            try:
                post(server.url, segment_gzip=False)
            except Unforeseen as error:
                sentry_sdk.capture_exception(error)
            client.close()
        (event,) = events
        frames = event["exception"]["values"][0]["stacktrace"]["frames"]
        ours = [each for each in frames if each["module"].startswith("celery_segment")]
        assert ours
        ours_and_below = frames[frames.index(ours[0]) :]
        check((each["module"], str(each.get("vars"))) for each in ours_and_below)


class TestDelivery:
    @pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
    def test_no_frame_shows_a_message_where_something_is_logged(self, app, server, status):
        server.reply(Reply.status(status, body=f"I refuse {PAYLOAD} of {LOGIN}"))
        track.delay("u", "E", {"p": PAYLOAD})
        buffer = buffer_of(app)
        with shown_by_logging() as shown:
            (batch,) = buffer.claim(1)
            report = attempt_delivery(buffer, batch.id)
        check([("report", f"{report!r}"), *shown])

    def test_no_frame_of_an_attempt_shows_a_message(self, app, broken):
        track.delay("u", "E", {"p": PAYLOAD})
        buffer = buffer_of(app)
        (batch,) = buffer.claim(1)
        broken(ANSWER)
        with pytest.raises(Unforeseen) as caught:
            attempt_delivery(buffer, batch.id)
        check(shown_by(caught.value, all_frames=True))

    def test_no_frame_shows_a_message_where_redis_goes_away(self, make_app, server):
        with EmbeddedRedis() as own:
            app = make_app(segment_redis_url=own.url)
            track.delay("u", "E", {"p": PAYLOAD})
            buffer = buffer_of(app)
            (batch,) = buffer.claim(1)
            server.reply(Reply.status(400, body=PAYLOAD))
            lease = buffer.begin(batch.id, "token")
            own.stop()
            with pytest.raises(BufferUnavailable) as caught:
                attempt_delivery(buffer, batch.id)
            check(shown_by(caught.value, all_frames=True))
        check([("lease", f"{lease!r}")])


class TestCalls:
    """The application's own frame shows what it calls with; ours below show no more."""

    @pytest.fixture
    def away(self, make_app):
        with EmbeddedRedis() as own:
            url = own.url
        return make_app(segment_redis_url=url, segment_context={"traits": PAYLOAD})

    @pytest.mark.usefixtures("away")
    @pytest.mark.parametrize("option", [{}, {"link_error": None}])
    def test_a_call(self, option):
        with pytest.raises(BufferUnavailable) as caught:
            track.apply_async(("u", "E"), **option) if option else track.delay("u", "E")
        check(shown_by(caught.value, all_frames=True))

    @pytest.mark.usefixtures("away")
    def test_what_was_held_back(self):
        with pytest.raises(BufferUnavailable) as caught, Analytics().batch():
            track.delay("u", "E", {"p": PAYLOAD})
        check(shown_by(caught.value, all_frames=True))


class TestSettings:
    @pytest.mark.parametrize(
        "conf",
        [
            {"segment_flush_at": 0},
            {"segment_redis_url": f"redis://user:{PASSWORD}@h/0?nonsense=1"},
            {"segment_redis_url": f"http://user:{PASSWORD}@h/0"},
        ],
    )
    def test_a_wrong_setting_shows_no_other(self, monkeypatch, conf):
        monkeypatch.setenv("SEGMENT_WRITE_KEY", WRITE_KEY)
        proxies = {"https": f"http://user:{PASSWORD}@proxy"}
        app = new_app({"broker_url": "memory://", "segment_proxies": proxies, **conf})
        with pytest.raises(ConfigurationError) as caught:
            runtime_of(app).buffer("default")
        check(shown_by(caught.value, all_frames=True))
        app.close()


def test_a_tls_error_shows_nothing(monkeypatch, server):
    def fail(*_, **__):
        raise ssl.SSLError(1, "wrong")

    monkeypatch.setattr(f"http.client.{SEND}", fail)
    with shown_by_logging() as shown:
        failure = post(server.url)
    check([("failure", f"{failure!r}"), *shown])
