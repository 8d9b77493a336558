"""An operator at work in the panel that `celery segment web` serves."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from celery_segment import Analytics
from celery_segment.demo.processes import Child
from operators import let_die, settle_by_clicks
from support import DEFAULTS, TESTS, settings_of
from windows import WIDTHS, Window

SOURCES = {"marketing": {"write_key": "marketingwritekeys3cr3t"}}


@pytest.fixture
def app(make_app):
    return make_app(segment_sources=SOURCES)


@pytest.fixture
def opened(browser, app, tmp_path):
    """Open a window on the panel; what cannot be seen of it is checked at the end."""
    command = (sys.executable, "-m", "celery", "-A", "workerapp", "segment", "web", "--port=0")
    settings = json.dumps({**DEFAULTS, **settings_of(app)})
    environ = {**os.environ, "TESTS_CONF": settings, "PYTHONPATH": str(TESTS)}
    with ExitStack() as stack:
        web = stack.enter_context(Child("web", (*command, "--allow-changes"), environ, tmp_path))
        address = web.wait_for(r"http://127\.0\.0\.1:\d+")
        yield lambda width: stack.enter_context(closing(Window(browser, address, width)))


@pytest.mark.parametrize("width", WIDTHS)
def test_dead_letters_are_replayed_and_purged(opened, app, workers, server, width):
    workers.start_answering(app)
    let_die(server)
    window = opened(width)
    window.go("/")
    settle_by_clicks(window, server)


def test_dead_letters_are_chosen_and_filtered(opened, app, workers, server):
    worker = workers.start_answering(app)
    let_die(server)
    window = opened(360)
    page = window.page
    letters = page.locator("table.letters tbody tr")
    window.go("/sources/default/dead")
    page.fill("[name=reason]", "nothing like it")
    window.click("role=button[name='Filter']")
    assert letters.count() == 0
    page.locator("text=None matches").wait_for()
    window.go("/sources/default/dead?since=1h&reason=400")
    assert letters.count() == 5

    with page.expect_download() as download:
        page.click("role=link[name='Export all']")
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == 5

    for number in (0, 1):
        letters.nth(number).locator("input[type=checkbox]").check()
    window.click("button[formaction$='/replay']")
    page.locator("text=Replayed 2 messages").wait_for()
    assert server.wait_for_messages(12, timeout=20)
    window.go("/workers")
    page.locator(f"role=rowheader[name='{worker.name}']").wait_for()


@pytest.mark.usefixtures("app")
def test_a_person_is_forgotten(opened):
    Analytics().track.delay("ann", "Item Purchased")
    Analytics().track.delay("bob", "Item Purchased")
    window = opened(360)
    page = window.page
    window.go("/sources/default")
    window.click("role=link[name='Forget a person']")
    page.fill("[name=user_ids]", "ann")
    window.click("role=button[name='Count']")
    page.locator("role=heading[name='1 message']").wait_for()
    assert Analytics().stats().waiting == 2
    window.click("role=button[name='Delete permanently']")
    page.locator("role=status").wait_for()
    assert Analytics().stats().waiting == 1
