"""The system checks that the Django application registers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from celery import Celery
from django.core import checks

from celery_segment.producer import recording
from celery_segment.testing import Outbox
from support import free_port

NEVER_RAISES = {
    "SEGMENT_ON_INVALID": "log",
    "SEGMENT_ON_UNAVAILABLE": "drop",
    "SEGMENT_ON_FULL": "drop",
}


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
        assert set(found(deploy=True)) == {"W004"}
        app(**NEVER_RAISES)
        assert found(deploy=True) == {}

    def test_before_a_deployment_what_may_break_a_page_is_named(self, app):
        app(
            **{**NEVER_RAISES, "SEGMENT_ON_INVALID": "raise"},
            SEGMENT_SOURCES={"b": {"on_unavailable": "raise", "on_invalid": "log"}},
        )
        text = found(deploy=True)["W004"]
        assert "CELERY_SEGMENT_ON_INVALID of source 'default'," in text
        assert "CELERY_SEGMENT_ON_UNAVAILABLE of source 'b'." in text
        assert "Set CELERY_SEGMENT_ON_INVALID to 'log'" in text

    def test_before_a_deployment_capturing_is_told_where_no_tests_run(self, app, monkeypatch):
        app(**NEVER_RAISES)
        monkeypatch.setenv("SEGMENT_CAPTURE", "1")
        recording.follow_environment()
        try:
            assert found(deploy=True) == {}  # a test of pytest's may mean it
            for name in ("PYTEST_VERSION", "PYTEST_CURRENT_TEST"):
                monkeypatch.setenv(name, "")
            assert found() == {}
            text = found(deploy=True)["E006"]
            assert "SEGMENT_CAPTURE is 1 here. remove it from the environment." in text
            app(SEGMENT_CAPTURE_TESTS=False)
            assert found(deploy=True) == {}
        finally:
            monkeypatch.undo()
            recording.follow_environment()

    def test_bare_names_are_told_the_right_ones(self, app, settings_of_django):
        del settings_of_django.CELERY_SEGMENT_WRITE_KEY
        settings_of_django.SEGMENT_WRITE_KEY = "k3pts3cr3t"
        settings_of_django.SEGMENT_DEBUG = True  # another library's
        app()
        text = found()["W005"]
        assert text.startswith("SEGMENT_WRITE_KEY is ignored:")
        assert "named CELERY_SEGMENT_WRITE_KEY" in text
        assert "k3pts3cr3t" not in text
        app(SEGMENT_WRITE_KEY="k3pts3cr3t")
        assert found() == {}

    def test_where_celery_is_optional_the_way_out_is_named(self, app):
        app(BROKER_URL="amqp://h")
        assert "set CELERY_SEGMENT_ENABLED = False" in found()["E002"]
        app(SEGMENT_FLUSH_AT=0)
        assert "CELERY_SEGMENT_ENABLED" not in found()["E002"]

    def test_no_redis_is_missed_while_tests_run(self, app):
        app(BROKER_URL="amqp://h")
        with Outbox():
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
        settings_of_django.MIDDLEWARE = [
            *settings_of_django.MIDDLEWARE,
            "djangoproject.middleware.ByName",
        ]
        assert found() == {}

    def test_middleware_before_the_authentication(self, app, settings_of_django):
        app()
        settings_of_django.MIDDLEWARE = [
            "nowhere.Middleware",
            *reversed(settings_of_django.MIDDLEWARE),
        ]
        assert "after AuthenticationMiddleware" in found()["W002"]

    def test_redis_is_asked_before_a_deployment_alone(self, app, redis):
        redis.config_set("maxmemory-policy", "allkeys-lru")
        app(**NEVER_RAISES)
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
