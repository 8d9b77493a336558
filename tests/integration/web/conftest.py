from __future__ import annotations

import asyncio
import json

import django
import pytest

from celery_segment import track
from sites import ANONYMOUS, HEADERS, HOST, AsyncDjangoSite, DjangoSite, FlaskSite, StarletteSite
from support import stored

SITES = {
    "django": DjangoSite,
    "django async": AsyncDjangoSite,
    "flask": FlaskSite,
    "starlette": StarletteSite,
}


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """Set up the Django project in this process, with a database of its own."""
    from django.core.management import call_command
    from django.db import connections

    database = tmp_path_factory.mktemp("shop") / "database"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "djangoproject.settings")
        patch.setenv("SHOP_DATABASE", str(database))
        patch.setenv("SHOP_SETTINGS", json.dumps({"CELERY_BROKER_URL": "memory://"}))
        django.setup()
        call_command("migrate", verbosity=0)
    connections.close_all()
    return database


@pytest.fixture
def project(database, monkeypatch):
    """Let Celery find the Django project while the test runs."""
    from django.contrib.auth.models import User
    from django.db import connections

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "djangoproject.settings")
    yield database
    User.objects.all().delete()
    connections.close_all()


@pytest.fixture
def settings_of_django(project):  # noqa: ARG001 - it sets Django up
    from django.conf import settings
    from django.test import override_settings

    with override_settings():
        yield settings


@pytest.fixture
def client(project):  # noqa: ARG001 - likewise
    from django.test import Client

    client = Client(headers={**HEADERS, "host": HOST})
    client.cookies["ajs_anonymous_id"] = ANONYMOUS
    return client


@pytest.fixture
def user(project):  # noqa: ARG001 - likewise
    from django.contrib.auth.models import User

    return User.objects.create_user(f"user{User.objects.count()}")


@pytest.fixture
def async_client(client):
    from django.test import AsyncClient

    def request(path, method="get"):
        async_client = AsyncClient(headers={**HEADERS, "host": HOST})
        async_client.cookies = client.cookies
        return asyncio.run(getattr(async_client, method)(path))

    return request


@pytest.fixture(params=SITES)
def site(request):
    """A site of each framework, and a browser with the id of analytics.js."""
    if request.param.startswith("django"):
        request.getfixturevalue("project")
    with SITES[request.param]().entered() as site:
        site.set_cookie(ANONYMOUS)
        yield site


@pytest.fixture
def commands(make_app, redis):
    """Return how many messages were appended in how many commands, since the last time."""
    make_app(segment_batch_requests=True, segment_sources={"b": {}})
    track.delay("u", "first")
    seen = [0, 0]

    def commands():
        stats = redis.info("commandstats")
        # Each event loop looks at the user's rights first, which tries this as well.
        looks = stats["cmdstat_hincrby"]["calls"]
        calls = stats["cmdstat_evalsha"]["calls"] - looks
        messages = len(stored(redis))
        seen[:], was = [messages, calls], list(seen)
        return messages - was[0], calls - was[1]

    commands()
    return commands
