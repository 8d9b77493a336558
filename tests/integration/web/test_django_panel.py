"""The panel in Django's admin: users, permissions, forms, the log."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import subprocess
import sys
from urllib.parse import urlencode

import pytest

from celery_segment import Analytics
from sites import HOST
from support import TESTS, free_port

PANEL = "/admin/celery_segment/panel/"
OTHER = "/other/celery_segment/panel/"
ACT = f"{OTHER}sources/a_b/act"


@pytest.fixture
def make_client(project):  # noqa: ARG001 - it sets Django up
    """Return clients of users who have some of the permissions."""
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    def make(*permissions, kind=Client, **fields):
        fields = {"is_staff": True, **fields}
        user = User.objects.create_user(f"user{User.objects.count()}", **fields)
        for codename in permissions:
            user.user_permissions.add(Permission.objects.get(codename=codename))
        client = kind(headers={"host": HOST})
        client.force_login(user)
        client.user = user
        return client

    return make


@pytest.fixture
def pages(project):  # noqa: ARG001 - it sets Django up
    from djangoproject import pages

    pages.DONE.clear()
    pages.CLOSED.clear()
    return pages


@pytest.fixture
def viewer(make_client):
    return make_client("view_panel")


@pytest.fixture
def operator(make_client):
    return make_client("change_panel")


def logged():
    from django.contrib.admin.models import LogEntry

    return [
        (e.user_id, e.object_id, e.object_repr, e.get_change_message())
        for e in LogEntry.objects.order_by("pk")
    ]


class TestUsers:
    def test_who_is_not_logged_in_is_sent_to_log_in(self, project):  # noqa: ARG002
        from django.test import Client

        answer = Client(headers={"host": HOST}).get(PANEL)
        assert answer.url == f"/admin/login/?next={PANEL}"

    @pytest.mark.parametrize("method", ["get", "post"])
    @pytest.mark.parametrize("path", ["", "sources/a_b", "sources/a_b/act", "download"])
    def test_who_has_no_permission_sees_nothing(self, make_client, pages, method, path):
        client = make_client()
        assert getattr(client, method)(f"{OTHER}{path}").status_code == 403
        assert b"Panel" not in client.get("/admin/").content
        assert not pages.DONE

    def test_who_may_view_changes_nothing(self, viewer, pages):
        assert viewer.get(OTHER).status_code == 200
        answer = viewer.post(ACT, {"what": "it"})
        assert answer.status_code == 403
        assert b"You may look at this, but not change it." in answer.content
        assert not pages.DONE
        assert not logged()

    @pytest.mark.parametrize("rights", [{"permissions": ["change_panel"]}, {"is_superuser": True}])
    def test_who_may_change_does(self, make_client, pages, rights):
        client = make_client(*rights.pop("permissions", ()), **rights)
        answer = client.post(ACT, {"what": "it"}, follow=True)
        assert answer.redirect_chain == [(OTHER, 302)]
        assert '<li class="success">Did it</li>' in answer.content.decode()
        assert pages.DONE == [("a_b", "it")]

    def test_the_index_leads_to_the_panel(self, viewer):
        index = viewer.get("/admin/").content.decode()
        assert f'href="{PANEL}"' in index
        assert "/add/" not in index


class TestForms:
    @pytest.fixture
    def strict(self, make_client):
        from django.test import Client

        client = make_client("change_panel", kind=lambda **more: Client(True, **more))
        client.get(OTHER)
        return client

    def test_a_form_without_proof_is_refused(self, strict, pages):
        assert strict.post(ACT, {"what": "it"}).status_code == 403
        foreign = {"csrfmiddlewaretoken": "x" * 64, "what": "it"}
        assert strict.post(ACT, foreign).status_code == 403
        assert not pages.DONE

    @pytest.mark.parametrize("urlencoded", [False, True])
    def test_a_form_of_a_page_is_taken(self, strict, pages, urlencoded):
        fields = {"csrfmiddlewaretoken": strict.cookies["csrftoken"].value, "what": "é&=日"}
        if urlencoded:
            kind = "application/x-www-form-urlencoded"
            answer = strict.post(ACT, urlencode(fields), content_type=kind)
        else:
            answer = strict.post(ACT, fields)
        assert answer.status_code == 302
        assert pages.DONE == [("a_b", "é&=日")]

    def test_a_page_has_the_proof(self, operator, make_app):
        make_app()
        page = operator.get(f"{PANEL}sources/default").content.decode()
        proof = re.search('<input type="hidden" name="csrfmiddlewaretoken" value="(\\w+)">', page)
        assert proof


class TestLog:
    def test_each_action_is_logged_with_what_came_of_it(self, operator, pages):  # noqa: ARG002
        for what in ("it", "fail", "away", "look"):
            operator.post(ACT, {"what": what})
        operator.post(f"{OTHER}sources/a_b/nothing")
        user = operator.user.pk
        assert logged() == [
            (user, "a_b", "a_b", "act: did it"),
            (user, "a_b", "a_b", "act: Failed: did fail"),
            (user, "a_b", "a_b", "act: Failed: Redis is away"),
        ]

    def test_texts_from_outside_stay_on_their_line(self, operator, pages):  # noqa: ARG002
        answer = operator.post(ACT, {"what": "<b>\n\u202eevil"}, follow=True)
        assert "Did &lt;b&gt; \ufffdevil" in answer.content.decode()
        assert logged()[0][3] == "act: did <b> \ufffdevil"

    def test_an_entry_leads_to_its_source(self, operator, pages):  # noqa: ARG002
        from django.contrib.admin.models import LogEntry

        operator.post(ACT, {"what": "it"})
        path = LogEntry.objects.get().get_admin_url()
        assert path in operator.get("/admin/").content.decode()
        assert operator.get(path).url == f"{PANEL}sources/a_b"


class TestPages:
    def test_a_page_is_in_the_frame_of_the_admin(self, viewer, pages):  # noqa: ARG002
        page = viewer.get(f"{OTHER}?what=thing").content.decode()
        assert "<title>Shown thing | Django site admin</title>" in page
        assert f"http://{HOST}{OTHER} thing" in html.unescape(page)
        assert page.count("<h1>") == 1
        assert f'&rsaquo; <a href="{OTHER}">Panel</a>' in page

    def test_its_script_is_given_the_content_alone(self, viewer, pages):  # noqa: ARG002
        page = viewer.get(OTHER, headers={"X-Segment-Live": "1"}).content.decode()
        assert page.startswith("<h1>Shown nothing</h1>")

    def test_it_is_below_whatever_the_project_is_below(self, operator, pages):  # noqa: ARG002
        from django.urls import get_script_prefix, set_script_prefix

        before, root = get_script_prefix(), f"/%C3%A9%20shop{OTHER}"
        set_script_prefix("/é shop/")
        try:
            page = operator.get(f"{OTHER}sources/a_b").content.decode()
            answer = operator.post(ACT, {"what": "it"})
        finally:
            set_script_prefix(before)
        assert f"<bdi>{root}sources/a_b/act</bdi>" in page
        assert answer.url == root

    def test_what_there_is_not(self, viewer, pages):  # noqa: ARG002
        answer = viewer.get(f"{OTHER}nothing")
        assert answer.status_code == 404
        assert b"breadcrumbs" in answer.content

    def test_assets_are_kept_by_browsers_and_pages_are_not(self, viewer, pages):  # noqa: ARG002
        page = viewer.get(OTHER)
        assert "no-store" in page["Cache-Control"]
        assets = re.findall('(?:href|src)="([^"]+/assets/[^"]+)"', page.content.decode())
        assert len(assets) == 2
        for asset in assets:
            answer = viewer.get(html.unescape(asset))
            assert answer.content
            assert "immutable" in answer["Cache-Control"]
            assert "no-store" not in answer["Cache-Control"]


class TestStreams:
    """What is streamed is sent as it comes, and closed where nobody reads it to its end."""

    def test_under_wsgi(self, viewer, pages):
        with pages.HOLD:
            answer = viewer.get(f"{OTHER}download")
            assert answer["Content-Disposition"] == "attachment; filename=parts.txt"
            parts = iter(answer.streaming_content)
            assert next(parts) == b"first\n"
        assert list(parts) == [b"second\n"]
        assert pages.CLOSED.is_set()

    def test_under_wsgi_to_who_leaves(self, viewer, pages):
        answer = viewer.get(f"{OTHER}download")
        next(iter(answer.streaming_content))
        answer.close()
        assert pages.CLOSED.is_set()

    @pytest.mark.parametrize("leaves", [False, True])
    def test_under_asgi(self, make_client, pages, leaves):
        from django.test import AsyncClient

        client = make_client("view_panel", kind=AsyncClient)

        async def read():
            with pages.HOLD:
                answer = await client.get(f"{OTHER}download")
                parts = answer.streaming_content
                assert await anext(parts) == b"first\n"
            if leaves:
                await parts.aclose()
                return []
            return [part async for part in parts]

        assert asyncio.run(read()) == ([] if leaves else [b"second\n"])
        assert pages.CLOSED.is_set()

    def test_a_form_under_asgi(self, make_client, pages):
        from django.test import AsyncClient

        client = make_client("change_panel", kind=AsyncClient)
        answer = asyncio.run(client.post(ACT, {"what": "it"}))
        assert answer.status_code == 302
        assert pages.DONE == [("a_b", "it")]
        assert logged()[0][3] == "act: did it"


class TestPanel:
    """The real one, of the current application."""

    def test_an_operator_pauses_and_resumes(self, operator, make_app):
        app = make_app()
        answer = operator.post(f"{PANEL}sources/default/pause", follow=True)
        assert b'class="success">Paused.' in answer.content
        assert Analytics(app=app).stats().gate.state == "paused"
        operator.post(f"{PANEL}sources/default/resume")
        assert Analytics(app=app).stats().gate.state == "open"
        assert [entry[3].partition(":")[0] for entry in logged()] == ["pause", "resume"]

    def test_it_is_that_of_the_current_application(self, viewer, make_app):
        make_app(segment_sources={"first": {}})
        assert b"first" in viewer.get(PANEL).content
        make_app(segment_sources={"second": {}})
        page = viewer.get(PANEL).content
        assert b"second" in page
        assert b"first" not in page

    def test_a_redis_that_is_away(self, viewer, make_app):
        make_app(segment_redis_url=f"redis://127.0.0.1:{free_port()}/0")
        answer = viewer.get(PANEL)
        assert answer.status_code == 503
        assert b"Redis" in answer.content


class TestModel:
    """A model without a table."""

    def test_it_brings_two_permissions_and_no_table(self, project):  # noqa: ARG002
        from django.contrib.auth.models import Permission
        from django.db import connection

        of_ours = Permission.objects.filter(content_type__app_label="celery_segment")
        assert {p.codename for p in of_ours} == {"view_panel", "change_panel"}
        assert not [n for n in connection.introspection.table_names() if "panel" in n]

    def test_no_migration_is_missing(self, project):  # noqa: ARG002
        from django.core.management import call_command

        call_command("makemigrations", check=True, dry_run=True, verbosity=0)

    @pytest.mark.parametrize("use_base_manager", [False, True])
    def test_a_dump_leaves_it_out(self, project, tmp_path, use_base_manager):  # noqa: ARG002
        from django.core.management import call_command

        dump = tmp_path / "dump.json"
        call_command("dumpdata", output=dump, use_base_manager=use_base_manager, verbosity=0)
        assert "celery_segment.panel" not in {e["model"] for e in json.loads(dump.read_text())}

    @pytest.mark.parametrize("absent", ["admin", "jinja2", "werkzeug"])
    def test_without_the_admin_or_the_extra_there_is_no_panel(self, tmp_path, absent):
        models, registered, _ = set_up(tmp_path, without=absent)
        assert models == ([] if absent == "admin" else ["Panel"])
        assert registered == ([] if absent == "admin" else ["Group", "User"])

    def test_a_web_process_loads_nothing_for_it_before_its_first_visit(self, tmp_path):
        models, registered, loaded = set_up(tmp_path, without=None)
        assert models == ["Panel"]
        assert "Panel" in registered
        assert not {name for name in loaded if name.startswith("celery_segment.web")}
        assert not {"jinja2", "werkzeug"} & set(loaded)


def set_up(folder, without):
    """Set a project up in a process without the admin, or without a library.

    Returns the library's models, what the admin shows, and what is loaded.
    """
    apps = ["contenttypes", "auth", "messages", "sessions"]
    apps += [] if without == "admin" else ["admin"]
    settings = {
        "INSTALLED_APPS": [
            *(f"django.contrib.{name}" for name in apps),
            "celery_segment.contrib.django",
        ],
        "CELERY_BROKER_URL": "redis://",
        "ROOT_URLCONF": "django.contrib.auth.urls",
    }
    program = (
        f"import json, sys; sys.modules.update({dict.fromkeys([without] if without else [])})\n"
        "import django; django.setup()\n"
        "from django.apps import apps\n"
        "from django.core.management import call_command\n"
        "call_command('check')\n"
        "models = [m.__name__ for m in apps.get_app_config('celery_segment').get_models()]\n"
        "from django.contrib import admin\n"
        "has_admin = apps.is_installed('django.contrib.admin')\n"
        "shown = [m.__name__ for m in admin.site._registry] if has_admin else []\n"
        "print(json.dumps([models, sorted(shown), [*sys.modules]]))"
    )
    environ = {
        "DJANGO_SETTINGS_MODULE": "djangoproject.settings",
        "SHOP_DATABASE": str(folder / "database"),
        "SHOP_SETTINGS": json.dumps(settings),
        "PYTHONPATH": str(TESTS),
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])
