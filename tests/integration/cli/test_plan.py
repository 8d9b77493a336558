"""`celery segment plan`: get a plan, generate its classes, and compare both."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from celery import Celery

from celery_segment.events.plan.public_api import PublicApi, PullFailed
from celery_segment.events.plan.reading import parse_plan, read_plan
from celery_segment.testing import Reply
from commands import failed, ok, run
from publicapi import TOKEN, PublicApiServer, busy
from support import free_port

TESTS = Path(__file__).parents[2]
SHAPES, LIBRARY = TESTS / "plans" / "shapes.json", TESTS / "plans" / "library.json"
PLANS = {"tp_1": json.loads(SHAPES.read_text("utf-8"))}


@pytest.fixture
def app():
    """An application without Redis."""
    with Celery("shop", set_as_current=False) as app:
        yield app


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("SEGMENT_PUBLIC_API_TOKEN", TOKEN)
    with PublicApiServer(PLANS) as api:
        yield api


def test_a_plan_is_pulled_page_by_page(app, api, tmp_path):
    file = tmp_path / "plan.json"
    said = ok(app, "plan", "pull", "tp_1", str(file), "--url", api.url)
    assert said == f"{file}: 25 rules of Every shape\n"
    assert read_plan(file) == parse_plan(PLANS["tp_1"])
    assert len(api.requests) == 1 + 13
    # What changes from one time to another is not in it.
    content = file.read_bytes()
    assert b"updatedAt" not in content
    assert b"createdAt" not in content
    PLANS["tp_1"]["rules"].reverse()
    ok(app, "plan", "pull", "tp_1", str(file), "--url", api.url)
    assert file.read_bytes() == content


def test_where_the_api_is_busy_the_command_waits_as_it_says(api):
    waits = []
    api.failing += [busy(("Retry-After", "3")), busy(("X-RateLimit-Reset", "2")), busy()]
    api.failing += [Reply("down", code=503)]
    content = PublicApi(api.url, TOKEN, waits.append).pull("tp_1")
    assert len(content["rules"]) == 25
    assert waits == [3, 2, 5, 5]
    api.failing += [busy(("Retry-After", "301"))]
    with pytest.raises(PullFailed, match="asks to wait for 301 s: try again later"):
        PublicApi(api.url, TOKEN, waits.append).pull("tp_1")
    api.failing += [busy(("Retry-After", "200"))] * 2
    with pytest.raises(PullFailed, match="asks to wait for 200 s"):
        PublicApi(api.url, TOKEN, waits.append).pull("tp_1")


def test_what_the_api_refuses_is_told(app, api, tmp_path, monkeypatch):
    file = tmp_path / "plan.json"
    pull = ("plan", "pull", "tp_1", str(file), "--url")
    said = failed(app, "plan", "pull", "tp_2", str(file), "--url", api.url)
    assert "answers 404 (No such plan.): there is no tracking plan with this id" in said
    api.failing += [Reply("forbidden", code=403)]
    assert "SEGMENT_PUBLIC_API_TOKEN may not read tracking plans" in failed(app, *pull, api.url)
    for answer in (b"[]", b"<html>", b'{"data": 5}'):
        api.failing += [Reply("other", body=answer)]
        assert "does not answer as the Public API does" in failed(app, *pull, api.url)
    nobody = f"http://127.0.0.1:{free_port()}"
    assert f"{nobody} cannot be reached: ConnectionError" in failed(app, *pull, nobody)
    monkeypatch.setenv("SEGMENT_PUBLIC_API_TOKEN", "wr0ng")
    said = failed(app, *pull, api.url)
    assert "answers 401 (The token is not valid.): SEGMENT_PUBLIC_API_TOKEN is not a token" in said
    assert "wr0ng" not in said
    for bad in ("", " ", "a\nb", "é"):
        monkeypatch.setenv("SEGMENT_PUBLIC_API_TOKEN", bad)
        assert "SEGMENT_PUBLIC_API_TOKEN must be a token" in failed(app, *pull, api.url)
    assert not file.exists()


def test_a_token_goes_to_no_other_server(app, api, tmp_path):
    with PublicApiServer(PLANS) as other:
        api.failing += [Reply("moved", code=302, headers=(("Location", other.url),))]
        failed(app, "plan", "pull", "tp_1", str(tmp_path / "p.json"), "--url", api.url)
        assert other.requests == []


def test_a_module_is_generated_once_and_checked(app, tmp_path):
    file = tmp_path / "library_events.py"
    generate = ("plan", "generate", str(file), "--plan", str(LIBRARY))
    assert run(app, *generate, "--check").exit_code == 1
    assert not file.exists()
    assert ok(app, *generate) == f"{file}: 6 rules of Library\n"
    text = file.read_text("utf-8")
    assert ok(app, *generate) == f"{file}: 6 rules of Library (no change)\n"
    assert ok(app, *generate, "--check") == f"{file} is what the plan gives\n"
    assert file.read_text("utf-8") == text
    file.write_text(f"{text}\n", "utf-8")
    result = run(app, *generate, "--check")
    assert (result.exit_code, result.stdout) == (1, f"{file} differs from what the plan gives\n")


def test_the_plan_is_that_of_the_setting(app, tmp_path):
    said = failed(app, "plan", "generate", str(tmp_path / "e.py"))
    assert "source 'default' has no tracking plan: set segment_tracking_plan, or give" in said
    with Celery("shop", set_as_current=False) as other:
        other.conf.segment_sources = {"web": {"tracking_plan": str(LIBRARY)}}
        file = tmp_path / "e.py"
        said = ok(other, "plan", "generate", str(file), "--source", "web")
        assert said == f"{file}: 6 rules of Library\n"


def test_classes_are_compared_with_the_plan(app, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "compared_events.py"
    compare = ("plan", "check", "compared_events", "--plan", str(LIBRARY))
    ok(app, "plan", "generate", str(file), "--plan", str(LIBRARY))
    assert ok(app, *compare) == "4 classes and 6 rules of Library agree\n"
    text = file.read_text("utf-8").replace("    days: Annotated[int, Meta(ge=1)]\n", "")
    file.write_text(text, "utf-8")
    del sys.modules["compared_events"]
    result = run(app, *compare)
    assert result.exit_code == 1
    assert result.stdout == (
        "compared_events.BookLentV2: properties.days: is in the plan (integer, required), and not"
        " in the class: add the field\n"
    )
    del sys.modules["compared_events"]


def test_a_module_that_is_none_is_refused(app):
    plan = ("--plan", str(LIBRARY))
    assert "nowhere_at_all cannot be imported" in failed(
        app, "plan", "check", "nowhere_at_all", *plan
    )
    assert "json.loads is no module" in failed(app, "plan", "check", "json.loads", *plan)
    assert run(app, "plan", "check", *plan).exit_code == 2


def test_two_plans_are_compared(app):
    assert ok(app, "plan", "diff", str(SHAPES), str(SHAPES)) == "no difference\n"
    result = run(app, "plan", "diff", str(SHAPES), str(LIBRARY))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 25 + 6
    assert '+ track "Book Lent" version 2' in lines
    assert '- track "Union"' in lines
    assert "nowhere.json cannot be read" in failed(app, "plan", "diff", "nowhere.json", str(SHAPES))
