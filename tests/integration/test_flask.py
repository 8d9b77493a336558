"""Flask: the extension with an application's requests, its users and its batches."""

from __future__ import annotations

import flask
import flask_login
import pytest

from celery_segment import ValidationError, track
from celery_segment.contrib.flask import Segment
from support import stored

ANONYMOUS = "48d213bb-95c3-4f8d-af97-86b2b404dcfe"
HEADERS = {
    "User-Agent": "Mozilla/5.0",
    "Accept-Language": "de-CH,de;q=0.9",
    "Referer": "https://shop.example/",
}


def browser(app, domain="localhost"):
    """Return a client with the cookie of an older analytics.js."""
    client = app.test_client()
    client.set_cookie("ajs_anonymous_id", f"%22{ANONYMOUS}%22", domain=domain)
    return client


class User(flask_login.UserMixin):
    loaded = 0

    def __init__(self, user_id):
        self.id = user_id
        User.loaded += 1


def shop(*, login=True, **options):
    """Make an application as users do."""
    shop = flask.Flask("shop")
    shop.secret_key = "of the tests"
    Segment(shop, **options)
    if login:
        flask_login.LoginManager(shop).user_loader(User)

    @shop.route("/items/<path:item>")
    def look(item):
        track.delay(event="Item Viewed", properties={"item": item})
        return "item"

    @shop.route("/log-in/<user>")
    def log_in(user):
        flask_login.login_user(User(user))
        track.delay(user, "Logged In")
        return "welcome"

    @shop.route("/quiet")
    def quiet():
        return "nothing"

    @shop.route("/broken")
    def broken():
        track.delay("u", "A")
        track.delay("u", "B")
        raise ZeroDivisionError

    @shop.route("/stream")
    def stream():
        def parts():
            track.delay("u", "While")
            yield "part"

        track.delay("u", "Before")
        return flask.Response(parts())

    return shop


class TestContext:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app(segment_trusted_proxies=1)

    def test_a_call_has_the_requests(self, segment_outbox):
        client = browser(shop(), "shop.example")
        headers = {**HEADERS, "X-Forwarded-For": "6.6.6.6, 192.0.2.7"}
        client.get("/items/a%20b/ü?q=1", base_url="https://shop.example/app", headers=headers)
        (message,) = segment_outbox
        assert message["anonymousId"] == ANONYMOUS
        assert "userId" not in message
        del message["context"]["library"]
        assert message["context"] == {
            "ip": "192.0.2.7",
            "userAgent": "Mozilla/5.0",
            "locale": "de-CH",
            "page": {
                "url": "https://shop.example/app/items/a%20b/%C3%BC?q=1",
                "path": "/app/items/a%20b/%C3%BC",
                "search": "?q=1",
                "referrer": "https://shop.example/",
            },
        }

    def test_the_user_of_flask_login_is_loaded_if_a_call_is_made(self, segment_outbox):
        client = browser(shop())
        client.get("/log-in/7", headers=HEADERS)
        segment_outbox.assert_tracked("Logged In", user_id=7, anonymous_id=ANONYMOUS)
        User.loaded = 0
        client.get("/quiet")
        assert User.loaded == 0
        client.get("/items/1")
        assert User.loaded == 1
        segment_outbox.assert_tracked("Item Viewed", user_id=7, properties={"item": "1"})

    def test_without_flask_login(self, segment_outbox):
        client = browser(shop(login=False))
        client.get("/items/1", headers=HEADERS)
        assert "userId" not in segment_outbox[0]
        with pytest.raises(ValidationError):
            track.delay(event="Outside")

    def test_users_of_ones_own(self, segment_outbox):
        def user_id():
            return flask.request.headers.get("X-User")

        client = browser(shop(login=False, user_id=user_id))
        client.get("/items/1", headers={"X-User": "7"})
        segment_outbox.assert_tracked("Item Viewed", user_id="7")


def test_a_visitor_keeps_a_new_id(make_app, segment_outbox):
    make_app(segment_set_anonymous_id=True)
    client = shop(login=False).test_client()
    first = client.get("/items/1", base_url="https://localhost")
    second = client.get("/items/2", base_url="https://localhost")
    cookie = client.get_cookie("ajs_anonymous_id")
    assert [m["anonymousId"] for m in segment_outbox] == [cookie.value] * 2
    assert cookie.secure
    assert first.headers.getlist("Vary") == ["Cookie"]
    assert "Set-Cookie" not in second.headers
    assert "Set-Cookie" not in shop().test_client().get("/quiet").headers


def test_a_requests_calls_are_stored_at_its_end(make_app, redis):
    make_app(segment_batch_requests=True)
    track.delay("u", "first")
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    client = browser(shop())
    assert client.get("/broken").status_code == 500
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
    assert client.get("/stream").text == "part"
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 3
    assert [m["event"] for m in stored(redis)] == ["first", "A", "B", "Before", "While"]
