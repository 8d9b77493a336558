"""Django: the middleware, the checks, transactions; a real project under real servers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import django
import pytest
import requests
from celery import Celery
from django.core import checks
from django.core.management import call_command

from celery_segment import Analytics, ValidationError, track
from celery_segment.signals import messages_dropped
from celery_segment.testing import EmbeddedRedis
from support import TESTS, Gunicorn, Worker, free_port, stored

BY_NAME = "djangoproject.middleware.ByName"
ANONYMOUS = "48d213bb-95c3-4f8d-af97-86b2b404dcfe"
BROWSER = {
    "user-agent": "Mozilla/5.0",
    "accept-language": "de-CH,de;q=0.9,en;q=0.8",
    "referer": "https://shop.example/",
    "host": "shop.example",
}


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory):
    """Set up the project in this process, with a database of its own."""
    from django.db import connections

    database = tmp_path_factory.mktemp("shop") / "database"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "djangoproject.settings")
        patch.setenv("SHOP_DATABASE", str(database))
        patch.setenv("SHOP_SETTINGS", json.dumps({"CELERY_BROKER_URL": "memory://"}))
        django.setup()
        call_command("migrate", verbosity=0)
        yield database
        connections.close_all()


@pytest.fixture
def client():
    from django.test import Client

    client = Client(headers=BROWSER)
    client.cookies["ajs_anonymous_id"] = ANONYMOUS
    return client


@pytest.fixture
def user():
    from django.contrib.auth.models import User

    user = User.objects.create_user(f"user{User.objects.count()}")
    yield user
    user.delete()


@pytest.fixture
def async_client(client):
    from django.test import AsyncClient

    def request(path, method="get"):
        async_client = AsyncClient(headers=BROWSER)
        async_client.cookies = client.cookies
        return asyncio.run(getattr(async_client, method)(path))

    return request


class TestContext:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app()

    def test_a_call_has_the_requests(self, client, segment_outbox):
        client.get("/items/?colour=red%20blue", REMOTE_ADDR="192.0.2.7")
        (message,) = segment_outbox
        assert message["anonymousId"] == ANONYMOUS
        assert "userId" not in message
        assert message["context"].pop("library")
        assert message["context"] == {
            "ip": "192.0.2.7",
            "userAgent": "Mozilla/5.0",
            "locale": "de-CH",
            "page": {
                "url": "http://shop.example/items/?colour=red%20blue",
                "path": "/items/",
                "search": "?colour=red%20blue",
                "referrer": "https://shop.example/",
            },
        }

    def test_and_its_user(self, client, user, segment_outbox):
        client.force_login(user)
        client.post("/buy/", {"sku": "7"})
        segment_outbox.assert_tracked(
            "Item Purchased", user_id=user.pk, anonymous_id=ANONYMOUS, properties={"sku": "7"}
        )

    def test_a_sign_up_is_stitched(self, client, segment_outbox):
        user_id = client.post("/sign-up/", {"name": "Ann"}).content.decode()
        segment_outbox.assert_identified(user_id, anonymous_id=ANONYMOUS, traits={"name": "Ann"})
        segment_outbox.assert_tracked("Signed Up", user_id=user_id, anonymous_id=ANONYMOUS)

    def test_a_call_about_another_user_has_nothing_of_the_requests(
        self, client, user, segment_outbox
    ):
        client.force_login(user)
        client.get(f"/about/{user.pk + 1}/")
        (message,) = segment_outbox
        assert message["userId"] == str(user.pk + 1)
        assert "anonymousId" not in message
        assert list(message["context"]) == ["library"]

    def test_nothing_is_left_after_the_request(self, client, segment_outbox):
        client.get("/items/")
        segment_outbox.clear()
        track.delay("u", "Outside")
        with pytest.raises(ValidationError):
            track.delay(event="Outside")
        assert list(segment_outbox[0]["context"]) == ["library"]

    @pytest.mark.parametrize("path", ["/quiet/", "/items/"])
    def test_the_session_is_read_if_a_call_is_made(self, client, user, path, segment_outbox):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        client.force_login(user)
        with CaptureQueriesContext(connection) as queries:
            client.get(path)
        assert len(queries) == {"/quiet/": 0, "/items/": 2}[path]
        assert len(segment_outbox) == {"/quiet/": 0, "/items/": 1}[path]

    def test_a_host_that_django_refuses_is_not_told(self, client, segment_outbox):
        client.get("/items/", headers={"host": "evil.example"})
        assert segment_outbox[0]["context"]["page"] == {
            "path": "/items/",
            "referrer": "https://shop.example/",
        }

    def test_a_visitor_without_an_identity_is_told_as_such(self, client, segment_outbox):
        del client.cookies["ajs_anonymous_id"]
        with pytest.raises(ValidationError, match="of this request's visitor neither is known"):
            client.get("/items/")
        segment_outbox.assert_nothing()

    def test_an_id_of_ones_own(self, client, user, segment_outbox, settings_of_django):
        settings_of_django.MIDDLEWARE = [*settings_of_django.MIDDLEWARE[:-1], BY_NAME]
        client.force_login(user)
        client.get("/items/")
        assert segment_outbox[0]["userId"] == user.username


@pytest.fixture
def settings_of_django():
    from django.conf import settings
    from django.test import override_settings

    with override_settings():
        yield settings


class TestProxies:
    FORWARDED = "203.0.113.9, 198.51.100.1, 198.51.100.2"

    @pytest.mark.parametrize(
        ("proxies", "ip"),
        [(0, "127.0.0.1"), (1, "198.51.100.2"), (2, "198.51.100.1"), (4, "127.0.0.1")],
    )
    def test_as_many_are_trusted_as_are_set(self, make_app, client, segment_outbox, proxies, ip):
        make_app(segment_trusted_proxies=proxies)
        client.get("/items/", headers={"x-forwarded-for": self.FORWARDED})
        assert segment_outbox[0]["context"]["ip"] == ip


class TestAsync:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app()

    @pytest.mark.parametrize("path", ["/async/buy/", "/async/aside/"])
    @pytest.mark.parametrize("logged_in", [False, True])
    def test_a_call_knows_the_requests_user(
        self, client, async_client, user, path, logged_in, segment_outbox
    ):
        if logged_in:
            client.force_login(user)
        assert async_client(path).status_code == 200
        (message,) = segment_outbox
        assert message.get("userId") == (str(user.pk) if logged_in else None)
        assert message["anonymousId"] == ANONYMOUS
        assert message["context"]["page"]["path"] == path

    @pytest.mark.skipif(django.VERSION < (5,), reason="auser came with Django 5")
    def test_a_user_who_was_awaited_is_not_asked_for_again(
        self, client, async_client, user, segment_outbox
    ):
        client.force_login(user)
        assert async_client("/async/leave/").status_code == 200
        segment_outbox.assert_tracked("Left", user_id=user.pk)

    def test_a_sync_view_under_asgi(self, client, async_client, user, segment_outbox):
        client.force_login(user)
        async_client("/items/")
        assert segment_outbox[0]["userId"] == str(user.pk)


class TestNewVisitors:
    @pytest.fixture
    def client(self, client, make_app):
        make_app(segment_set_anonymous_id=True)
        del client.cookies["ajs_anonymous_id"]
        return client

    def test_a_visitor_keeps_a_new_id(self, client, segment_outbox):
        response = client.get("/items/")
        client.get("/items/")
        cookie = response.cookies["ajs_anonymous_id"]
        assert [m["anonymousId"] for m in segment_outbox] == [cookie.value] * 2
        assert (cookie["max-age"], cookie["path"], cookie["samesite"]) == ("31536000", "/", "Lax")
        assert not cookie["secure"]
        assert not cookie["httponly"]
        # A cache may not give it to others.
        assert "Cookie" in response.headers["Vary"]

    @pytest.mark.parametrize("path", ["/thrice/", "/async/buy/"])
    @pytest.mark.usefixtures("client")
    def test_all_calls_of_a_request_have_it(self, async_client, path, segment_outbox):
        response = async_client(path)
        (value,) = {m["anonymousId"] for m in segment_outbox}
        assert response.cookies["ajs_anonymous_id"].value == value

    def test_who_has_one_or_needs_none_gets_none(self, client, segment_outbox):
        assert not client.get("/quiet/").cookies
        assert not client.get("/about/7/").cookies
        client.cookies["ajs_anonymous_id"] = ANONYMOUS
        assert not client.get("/items/").cookies
        assert segment_outbox.of_type("page")[0]["anonymousId"] == ANONYMOUS

    def test_over_https_alone_where_it_was_set_so(self, client, segment_outbox):
        response = client.get("/items/", secure=True)
        assert response.cookies["ajs_anonymous_id"]["secure"]
        assert len(segment_outbox) == 1


class TestBatch:
    @pytest.fixture
    def commands(self, make_app, redis):
        """Return how many messages were appended in how many commands, since the last time."""
        make_app(segment_batch_requests=True, segment_sources={"b": {}})
        track.delay("u", "first")
        seen = [0, 0]

        def commands():
            calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
            messages = len(stored(redis))
            seen[:], was = [messages, calls], list(seen)
            return messages - was[0], calls - was[1]

        commands()
        return commands

    def test_a_requests_calls_are_one_round_trip(self, client, async_client, commands):
        client.get("/thrice/")
        assert commands() == (3, 1)
        async_client("/thrice/")
        assert commands() == (3, 1)
        client.get("/quiet/")
        assert commands() == (0, 0)

    def test_what_was_tracked_before_an_error_is_stored(self, client, commands, redis):
        with pytest.raises(ZeroDivisionError):
            client.get("/broken/")
        assert commands() == (1, 1)
        assert stored(redis)[-1]["event"] == "Before"

    def test_what_is_called_while_a_response_streams_is_stored_at_once(
        self, client, commands, redis
    ):
        response = client.get("/stream/")
        assert commands() == (1, 1)
        assert b"".join(response.streaming_content) == b"part"
        assert commands() == (1, 1)
        assert [m["event"] for m in stored(redis)[-2:]] == ["Before", "While"]

    def test_a_redis_that_fails_at_the_end_fails_no_request(self, client, make_app, caplog):
        told = []

        def hear(sender, reason, messages, **_):
            told.append((sender, reason, messages))

        with EmbeddedRedis(appendonly=False) as own:
            make_app(segment_batch_requests=True, segment_redis_url=own.url, broker_url="memory://")
            client.get("/thrice/")
            own.stop()
            messages_dropped.connect(hear)
            assert client.get("/thrice/").status_code == 200
        assert told == [("default", "unavailable", 3)]
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.getMessage().startswith("default: 3 messages of a request are lost: ")


class TestOnCommit:
    def test_what_is_rolled_back_is_not_tracked(self, client, make_app, redis):
        make_app()
        client.get("/order/")
        assert [m["event"] for m in stored(redis)] == ["outer", "savepoint"]
        context = stored(redis)[0]["context"]
        assert context["page"]["path"] == "/order/"
        with pytest.raises(ZeroDivisionError):
            client.get("/order/?fail")
        assert len(stored(redis)) == 2

    def test_it_is_validated_at_once(self, make_app, redis):
        from django.db import transaction

        make_app()
        with transaction.atomic():
            result = track.delay_on_commit("u", "E")
            with pytest.raises(ValidationError):
                track.delay_on_commit("u")
            Analytics().track.delay_on_commit("u", "bound", message_id="mine")
            assert stored(redis) == []
        assert [m["messageId"] for m in stored(redis)] == [result.id, "mine"]

    def test_in_djangos_test_case_the_callbacks_are_captured(self, make_app, segment_outbox):
        from django.test import TestCase

        make_app()

        class Case(TestCase):
            def test(self):
                with self.captureOnCommitCallbacks(execute=True):
                    self.client.get("/order/")

        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
        assert not result.errors
        assert [m["event"] for m in segment_outbox] == ["outer", "savepoint"]


def found(*, deploy=False):
    """Return what the system checks find, by their numbers."""
    messages = checks.run_checks(tags=["celery_segment"], include_deployment_checks=deploy)
    return {m.id.partition(".")[2]: f"{m.msg} {m.hint or ''}" for m in messages}


class TestChecks:
    @pytest.fixture
    def app(self, settings_of_django, redis_server):
        """Return a function that makes the application anew, with settings of Django's."""
        made = []

        def app(**settings):
            for name, value in {"BROKER_URL": redis_server.url, **settings}.items():
                setattr(settings_of_django, f"CELERY_{name}", value)
            app = Celery("shop")
            app.config_from_object("django.conf:settings", namespace="CELERY")
            app.set_default()
            made.append(app)

        yield app
        for each in made:
            each.close()

    def test_a_project_that_is_right(self, app):
        app()
        assert found() == {}

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"SEGMENT_FLUSH_ATT": 5}, "did you mean segment_flush_at?"),
            ({"SEGMENT_FLUSH_AT": 0}, "segment_flush_at must be at least 1, not 0"),
            ({"BROKER_URL": "amqp://h"}, "segment_redis_url is needed"),
        ],
    )
    def test_settings(self, app, settings, text):
        app(**settings)
        assert text in found()["E002"]

    def test_disabled_needs_no_redis(self, app):
        app(BROKER_URL="amqp://h", SEGMENT_ENABLED=False)
        assert found() == found(deploy=True) == {}

    def test_another_application_is_the_current_one(self, app):
        app(SEGMENT_FLUSH_AT=5)
        other = Celery("other", broker="redis://h")
        other.set_default()
        text = found()["E003"]
        other.close()
        assert "'other', has not read" in text
        assert "CELERY_SEGMENT_FLUSH_AT" in text
        assert "set_default()" in text

    def test_middleware_missing(self, app, settings_of_django):
        app()
        settings_of_django.MIDDLEWARE = settings_of_django.MIDDLEWARE[:2]
        assert "Add 'celery_segment.contrib.django.middleware." in found()["W001"]
        settings_of_django.MIDDLEWARE = [*settings_of_django.MIDDLEWARE, BY_NAME]
        assert found() == {}

    def test_middleware_before_the_authentication(self, app, settings_of_django):
        app()
        settings_of_django.MIDDLEWARE = [
            "nowhere.Middleware",
            *reversed(settings_of_django.MIDDLEWARE),
        ]
        assert "behind AuthenticationMiddleware" in found()["W002"]

    def test_redis_is_asked_before_a_deployment_alone(self, app, redis):
        redis.config_set("maxmemory-policy", "allkeys-lru")
        app()
        try:
            assert found() == {}
            assert "set maxmemory-policy noeviction" in found(deploy=True)["E005"]
        finally:
            redis.config_set("maxmemory-policy", "noeviction")
        app(SEGMENT_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
        assert found() == {}
        assert "segment_redis_url" in found(deploy=True)["E004"]

    def test_no_application_at_all(self):
        program = (
            "import django; from django.conf import settings;"
            "settings.configure(INSTALLED_APPS=['celery_segment.contrib.django'],"
            " MIDDLEWARE=['celery_segment.contrib.django.middleware.SegmentMiddleware']);"
            "django.setup(); from django.core.management import call_command; call_command('check')"
        )
        environ = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        run = subprocess.run(
            [sys.executable, "-c", program],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "(celery_segment.E001) There is no Celery application." in run.stderr


class TestServers:
    VISITORS = 8

    def visit(self, url, number):
        """Look, sign up and buy, as a browser with analytics.js does."""
        with requests.Session() as browser:
            browser.trust_env = False
            forwarded = f"10.0.0.1, 198.51.100.{number}"
            browser.headers.update({**BROWSER, "x-forwarded-for": forwarded})
            anonymous = quote(f'"anonymous {number}"')
            browser.headers["cookie"] = f"ajs_anonymous_id={anonymous}"
            browser.get(f"{url}/items/").raise_for_status()
            signed_up = browser.post(f"{url}/sign-up/", {"name": f"visitor{number}"})
            signed_up.raise_for_status()
            session = signed_up.cookies["sessionid"]
            browser.headers["cookie"] += f"; sessionid={session}"
            browser.post(f"{url}/buy/?sku={number}", {"sku": str(number)}).raise_for_status()
            return signed_up.text

    @pytest.fixture
    def served(self, tmp_path, project, redis, redis_server, server):  # noqa: ARG002 - an empty Redis
        """The address of four processes of gunicorn, with a worker behind."""
        settings = {
            "CELERY_BROKER_URL": redis_server.url,
            "CELERY_SEGMENT_HOST": server.url,
            "CELERY_SEGMENT_TRUSTED_PROXIES": 1,
            "CELERY_SEGMENT_BATCH_REQUESTS": True,
        }
        environ = {
            "DJANGO_SETTINGS_MODULE": "djangoproject.settings",
            "SHOP_DATABASE": str(project),
            "SHOP_SETTINGS": json.dumps(settings),
            "PYTHONPATH": str(TESTS),
        }
        worker = Worker(tmp_path, {}, "shop", ("--concurrency=2",), environ, "djangoproject")
        try:
            with Gunicorn(tmp_path, "djangoproject.wsgi", environ, processes=4) as web:
                worker.wait_ready()
                yield web.url
        finally:
            worker.kill()

    def test_a_page_view_a_sign_up_and_a_purchase_arrive_as_the_visitors(self, served, server):
        numbers = range(1, 1 + self.VISITORS)
        with ThreadPoolExecutor(self.VISITORS) as browsers:
            users = dict(
                zip(numbers, browsers.map(lambda n: self.visit(served, n), numbers), strict=True)
            )
        assert server.wait_for_messages(4 * self.VISITORS, timeout=15)
        for number, user in users.items():
            theirs = [m for m in server.messages if m["anonymousId"] == f"anonymous {number}"]
            by_type = {m.get("event", m["type"]): m for m in theirs}
            assert sorted(by_type) == ["Item Purchased", "Signed Up", "identify", "page"]
            assert "userId" not in by_type.pop("page")
            assert {m["userId"] for m in by_type.values()} == {user}
            assert {m["context"]["ip"] for m in theirs} == {f"198.51.100.{number}"}
            bought = by_type["Item Purchased"]
            assert bought["properties"] == {"sku": str(number)}
            assert bought["context"]["page"]["url"] == f"http://shop.example/buy/?sku={number}"
            assert bought["context"]["userAgent"] == "Mozilla/5.0"
