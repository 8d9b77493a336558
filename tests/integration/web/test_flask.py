"""What the extension does with what only Flask has: its root, flask-login, users of one's own."""

from __future__ import annotations

import flask
import flask_login
import pytest

from celery_segment import ValidationError, track
from celery_segment.contrib.flask import Segment
from sites import ANONYMOUS, HEADERS


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

    return shop


class TestRequest:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app()

    def test_the_root_of_the_application_is_part_of_the_page(self, segment_outbox):
        client = browser(shop(), "shop.example")
        client.get("/items/a%20b/ü?q=1", base_url="https://shop.example/app", headers=HEADERS)
        (message,) = segment_outbox
        assert message["context"]["page"] == {
            "url": "https://shop.example/app/items/a%20b/%C3%BC?q=1",
            "path": "/app/items/a%20b/%C3%BC",
            "search": "?q=1",
            "referrer": "https://shop.example/",
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
