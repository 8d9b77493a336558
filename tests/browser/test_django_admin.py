"""The panel in the Django shop's admin, as its users see it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from celery_segment import Analytics
from operators import HOSTILE, SHOWN, check_is_read_only, let_die, settle_by_clicks
from shops import EXAMPLES, serving
from windows import WIDTHS, Window

PANEL = "/admin/celery_segment/panel/"
PASSWORD = "0f the t3sts"
USERS = """
from django.contrib.auth.models import Permission, User
for name, right in (("operator", "change_panel"), ("viewer", "view_panel"), ("nobody", None)):
    user = User.objects.create_user(name, password={password!r}, is_staff=True)
    if right:
        user.user_permissions.add(Permission.objects.get(codename=right))
"""


@pytest.fixture
def shop(make_app, redis_server, server, tmp_path):
    """The address of the shop, whose admin three users may enter."""
    make_app()
    with serving("django_shop", redis_server.url, server.url, tmp_path) as web:
        environ = {"SHOP_DATABASE": str(tmp_path / "shop.sqlite3"), "REDIS_URL": redis_server.url}
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", USERS.format(password=PASSWORD)],
            cwd=EXAMPLES / "django_shop",
            env={**os.environ, **environ},
            check=True,
        )
        yield web.url


@contextmanager
def entered(browser, shop, width, user):
    """A window of a user who has logged in."""
    with closing(Window(browser, shop, width)) as window:
        page = window.page
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the shop has none
        page.goto(f"{shop}/admin/")
        page.fill("[name=username]", user)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_url(f"{shop}/admin/")
        yield window


def logged(folder):
    """Who did what to which source, by the admin's log."""
    with closing(sqlite3.connect(folder / "shop.sqlite3")) as database:
        return database.execute(
            "SELECT username, object_id, change_message FROM django_admin_log"
            " JOIN auth_user ON user_id = auth_user.id ORDER BY django_admin_log.id"
        ).fetchall()


@pytest.mark.parametrize("width", WIDTHS)
def test_operators_settle_dead_letters(browser, shop, server, width, tmp_path, pictures):
    broken, shown = ("Signed Up", "Signed Up") if width == 1280 else (HOSTILE, SHOWN)
    let_die(server, broken)

    def look(name):
        window.look()
        if width == 1280 and name == "dead":
            window.keep(pictures, "panel-django")

    with entered(browser, shop, width, "operator") as window:
        window.page.locator("role=link[name='Panel']").last.click()
        window.page.wait_for_url(f"{shop}{PANEL}")
        settle_by_clicks(window, server, look, broken, shown)
        window.page.goto(f"{shop}/admin/")
        assert window.page.locator("#recent-actions-module >> text=default").count() == 2
    assert logged(tmp_path) == [
        ("operator", "default", "replay: Replayed 3 messages."),
        ("operator", "default", "purge: Purged 2 messages."),
    ]


def test_viewers_only_look(browser, shop, server, tmp_path):
    let_die(server)
    with entered(browser, shop, 360, "viewer") as window:
        for path in ("sources/default", "sources/default/dead"):
            window.go(f"{PANEL}{path}")
            check_is_read_only(window)
        for action in ("pause", "flush", "replay", "purge", "forget/delete"):
            answer = window.post(f"{PANEL}sources/default/{action}", all="1")
            assert answer.status == 403
            assert "You may look at this, but not change it." in answer.text()
    assert Analytics().stats().dead.messages == 5
    assert logged(tmp_path) == []


def test_others_see_nothing(browser, shop):
    with entered(browser, shop, 1280, "nobody") as window:
        assert window.page.locator("text=Panel").count() == 0
        for path in ("", "sources/default/dead", "workers"):
            assert window.page.request.get(f"{shop}{PANEL}{path}").status == 403
