"""What only Django has: lazy users, sync views under ASGI, transactions."""

from __future__ import annotations

import unittest

import django
import pytest

from celery_segment import Analytics, ValidationError, track
from celery_segment.events import Event
from sites import ANONYMOUS
from support import stored

BY_NAME = "djangoproject.middleware.ByName"


@pytest.fixture(autouse=True)
def _project(project):
    """Celery's applications know of Django's."""


class TestContext:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app()

    def test_a_sign_up_is_stitched(self, client, segment_outbox):
        user_id = client.post("/sign-up/", {"name": "Ann"}).content.decode()
        segment_outbox.assert_identified(user_id, anonymous_id=ANONYMOUS, traits={"name": "Ann"})
        segment_outbox.assert_tracked("Signed Up", user_id=user_id, anonymous_id=ANONYMOUS)

    @pytest.mark.parametrize("path", ["/quiet/", "/items/"])
    def test_the_session_is_read_if_a_call_is_made(self, client, user, path, segment_outbox):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        client.force_login(user)
        with CaptureQueriesContext(connection) as queries:
            client.get(path)
        assert len(queries) == {"/quiet/": 0, "/items/": 2}[path]
        assert len(segment_outbox) == {"/quiet/": 0, "/items/": 1}[path]

    def test_a_host_that_django_refuses_is_left_out(self, client, segment_outbox):
        client.get("/items/", headers={"host": "evil.example"})
        assert segment_outbox[0]["context"]["page"] == {
            "path": "/items/",
            "referrer": "https://shop.example/",
        }

    def test_an_id_of_ones_own(self, client, user, segment_outbox, settings_of_django):
        settings_of_django.MIDDLEWARE = [*settings_of_django.MIDDLEWARE[:-1], BY_NAME]
        client.force_login(user)
        client.get("/items/")
        assert segment_outbox[0]["userId"] == user.username


class TestAsync:
    @pytest.fixture(autouse=True)
    def _app(self, make_app):
        make_app()

    @pytest.mark.parametrize("logged_in", [False, True])
    def test_a_call_in_a_thread_knows_the_requests_user(
        self, client, async_client, user, logged_in, segment_outbox
    ):
        if logged_in:
            client.force_login(user)
        assert async_client("/async/aside/").status_code == 200
        (message,) = segment_outbox
        assert message.get("userId") == (str(user.pk) if logged_in else None)
        assert message["anonymousId"] == ANONYMOUS
        assert message["context"]["page"]["path"] == "/async/aside/"

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


class TestSyncViewUnderASGI:
    def test_all_its_calls_have_a_new_visitors_id(
        self, make_app, client, async_client, segment_outbox
    ):
        make_app(segment_set_anonymous_id=True)
        del client.cookies["ajs_anonymous_id"]
        response = async_client("/thrice/")
        (value,) = {m["anonymousId"] for m in segment_outbox}
        assert response.cookies["ajs_anonymous_id"].value == value

    def test_its_calls_are_one_round_trip(self, async_client, commands):
        async_client("/thrice/")
        assert commands() == (3, 1)


def test_what_is_called_while_a_response_streams_is_stored_at_once(client, commands, redis):
    response = client.get("/stream/")
    assert commands() == (1, 1)
    assert b"".join(response.streaming_content) == b"part"
    assert commands() == (1, 1)
    assert [m["event"] for m in stored(redis)[-2:]] == ["Before", "While"]


class Ordered(Event, name="Ordered"):
    order_id: str


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

    def test_a_typed_event_is_validated_at_once(self, make_app, redis):
        from django.db import transaction

        make_app()
        with transaction.atomic():
            track.delay_on_commit("u", Ordered(order_id="50314b8e"))
            with pytest.raises(ValidationError, match=r"properties\.order_id: Ordered expects"):
                track.delay_on_commit("u", Ordered(order_id=5))
            assert stored(redis) == []
        (message,) = stored(redis)
        assert (message["event"], message["properties"]) == ("Ordered", {"order_id": "50314b8e"})

    def test_the_hook_is_called_at_the_commit_with_the_message_of_the_call(self, make_app, redis):
        from django.db import transaction

        seen = []

        def hook(message):
            seen.append(message["event"])
            return {**message, "properties": {**message["properties"], "hook": 1}}

        make_app(segment_before_send=hook, segment_context={"app": {"name": "shop"}})
        properties = {"n": 1}
        with transaction.atomic():
            track.delay_on_commit("u", "kept", properties)
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                track.delay_on_commit("u", "rolled back", properties)
                raise ZeroDivisionError
            properties["n"] = 2
            assert seen == []
        assert seen == ["kept"]
        (message,) = stored(redis)
        assert message["properties"] == {"n": 1, "hook": 1}
        assert message["context"]["app"] == {"name": "shop"}

    def test_a_hook_that_drops_or_fails_does_so_at_the_commit(self, make_app, redis):
        from django.db import transaction

        make_app(segment_before_send=lambda message: {"drop": None}[message["event"]])
        with transaction.atomic():
            track.delay_on_commit("u", "drop")
        with pytest.raises(KeyError), transaction.atomic():
            track.delay_on_commit("u", "other")
        assert stored(redis) == []

    @pytest.mark.parametrize("hook", [None, lambda message: message])
    def test_an_outbox_names_the_calls_that_await_a_commit(self, make_app, segment_outbox, hook):
        from django.db import transaction

        make_app(segment_before_send=hook)
        with transaction.atomic():
            track.delay_on_commit("u", "E")
            hint = (
                "1 call of delay_on_commit awaits a commit, or was rolled back:\n"
                "    1. track 'E' userId='u'\nDjango's TestCase never commits"
            )
            with pytest.raises(AssertionError) as caught:
                segment_outbox.assert_tracked("E")
            assert hint in str(caught.value)
            assert hint in repr(segment_outbox)
        segment_outbox.assert_tracked("E")
        assert "await" not in repr(segment_outbox)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            track.delay_on_commit("u", "E")
            track.delay_on_commit("u", "F")
            raise ZeroDivisionError
        assert "2 calls of delay_on_commit await a commit, or were rolled" in repr(segment_outbox)
        segment_outbox.clear()
        assert repr(segment_outbox) == "<Outbox: nothing>"

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
