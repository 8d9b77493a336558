"""The debugger as developers run it, with a real worker that delivers to it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import requests

from celery_segment import Analytics, track
from commands import command, environ
from support import TESTS, WRITE_KEY, wait_until

#: Runs a module's program as if a package of the extra `web` were absent.
WITHOUT = (
    "import runpy, sys; sys.modules['{}'] = None; sys.argv = {!r};"
    " runpy.run_module({!r}, run_name='__main__')"
)
MODULE = "celery_segment.testing"


@contextmanager
def running(args, env, cwd):
    """Run a program that serves; yield its address, and end it as Ctrl-C does."""
    with subprocess.Popen(args, env=env, cwd=cwd, stdout=-1, stderr=-1, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), process.stderr.read()
            yield url, process
        finally:
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert WRITE_KEY not in output


@pytest.fixture
def debugger(tmp_path):
    """The address of `segment debugger`, of an application that knows the write key."""
    args = command("-A", "workerapp", "segment", "debugger", "--port", "0")
    conf = {"segment_sources": {"marketing": {"write_key": "marketing" + WRITE_KEY}}}
    with running(args, environ(**conf), tmp_path) as (url, _):
        yield url


@pytest.fixture
def ask(debugger):
    with requests.Session() as session:
        session.trust_env = False

        def ask(path, method="GET", **options):
            response = session.request(method, debugger + path, timeout=60, **options)
            assert response.ok, response.text
            assert WRITE_KEY not in response.text
            return response.json() if path.startswith("/api/") else response.text

        yield ask


@pytest.fixture
def analytics(make_app, workers, debugger):
    app = make_app(segment_host=debugger)
    workers.start(app, processes=2)
    return Analytics(app=app)


def test_a_developer_sees_what_arrives(analytics, ask):
    seconds = []
    for number in range(5):
        start = time.monotonic()
        track.delay(user_id="maria", event="Item Purchased", properties={"number": number})
        found = ask(f"/api/messages?event=Item+Purchased&after={number}&accepted=yes&wait=30")
        seconds.append(time.monotonic() - start)
        assert found["messages"][-1]["message"]["properties"] == {"number": number}
    # A page asks 0.4 s later at most.
    assert min(seconds) < 0.6, seconds
    (*_, last) = found["messages"]
    assert (last["source"], last["violations"]) == ("default", [])
    assert "Item Purchased" in ask("/")

    # A failure is seen as a retry.
    ask("/api/failures", "POST", json={"kind": "error", "requests": 2})
    track.delay(user_id="maria", event="Retried")
    (retried,) = ask("/api/messages?event=Retried&accepted=yes&wait=30")["messages"]
    assert (retried["arrivals"], retried["accepted"]) == (3, 1)
    requested = [ask(f"/api/requests/{number}") for number in retried["requests"]]
    assert [(r["status"], r["retry_count"]) for r in requested] == [(503, 0), (503, 1), (200, 2)]

    # What is rejected is found among the others.
    ask("/api/failures", "POST", json={"kind": "reject", "event": "Bad"})
    with analytics.batch():
        for event in ("Good", "Bad", "Good"):
            track.delay(user_id="paul", event=event)
    assert analytics.flush(timeout=30) == 0
    assert ask("/api/messages?event=Good&accepted=yes")["total"] == 2
    assert ask("/api/messages?event=Bad&accepted=no")["total"] == 1
    assert wait_until(lambda: analytics.stats().dead.messages) == 1


#: Of the parts of a plan that the debugger is given, and what it says of what violates it.
SHAPES = TESTS / "plans" / "shapes.json"
VIOLATION = {
    "path": "properties.call number",
    "text": "must match the pattern Folio|Quarto (tracking plan)",
}


def violations_at(url, key, event):
    """Deliver an event to the debugger; return what it says of it."""
    message = {"type": "track", "messageId": f"{key} {event}", "userId": "u", "event": event}
    message["properties"] = {"call number": "ann@example.com"}
    with requests.Session() as session:
        session.trust_env = False
        body = {"batch": [message], "writeKey": key, "sentAt": "2026-11-23T07:00:09.456Z"}
        assert session.post(f"{url}/v1/batch", json=body, auth=(key, ""), timeout=60).ok
        ((found,),) = [session.get(f"{url}/api/messages", timeout=60).json()["messages"][-1:]]
        assert found["message"]["messageId"] == message["messageId"]
        return [each for each in found["violations"] if "plan" in each["text"]]


def test_messages_are_held_to_the_plan_of_their_source(tmp_path):
    sources = {
        "planned": {"write_key": "planned", "tracking_plan": str(SHAPES)},
        "narrow": {
            "write_key": "narrow",
            "tracking_plan": str(SHAPES),
            "on_unplanned": "allow",
        },
    }
    args = command("-A", "workerapp", "segment", "debugger", "--port", "0")
    with running(args, environ(segment_sources=sources), tmp_path) as (url, _):
        unplanned = {
            "path": "event",
            "text": "the tracking plan has no such event (tracking plan)",
        }
        assert violations_at(url, "planned", "Own Handler") == [VIOLATION]
        assert violations_at(url, "planned", "Nobody's") == [unplanned]
        assert violations_at(url, "narrow", "Own Handler") == [VIOLATION]
        assert violations_at(url, "narrow", "Nobody's") == []
        assert violations_at(url, WRITE_KEY, "Own Handler") == []
        assert violations_at(url, "another", "Own Handler") == []


def test_the_program_holds_all_messages_to_a_plan(tmp_path):
    args = [sys.executable, "-m", MODULE, "--port", "0", "--plan", str(SHAPES)]
    with running(args, environ(), tmp_path) as (url, _):
        assert violations_at(url, "any", "Own Handler") == [VIOLATION]


def test_a_plan_that_is_not_there(tmp_path):
    args = [sys.executable, "-m", MODULE, "--port", "0", "--plan", "none.json"]
    ended = subprocess.run(
        args, env=environ(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "none.json" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_program_without_an_application_or_pages(tmp_path):
    program = WITHOUT.format("jinja2", ["testing", "--port", "0"], MODULE)
    args = [sys.executable, "-W", "error", "-c", program]
    with running(args, environ(), tmp_path) as (url, process):
        assert process.stdout.readline() == (
            "without pages, since jinja2 is not installed: pip install 'celery-segment[web]'\n"
        )
        assert requests.get(url, timeout=20).status_code == 404
        assert requests.get(f"{url}/health", timeout=20).ok


def test_the_command_needs_pages(tmp_path):
    argv = ["celery", "-A", "workerapp", "segment", "debugger", "--port", "0"]
    program = WITHOUT.format("werkzeug", argv, "celery")
    args = [sys.executable, "-c", program]
    ended = subprocess.run(
        args, env=environ(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == ("Error: werkzeug is not installed: pip install 'celery-segment[web]'\n")


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        args = command("-A", "workerapp", "segment", "debugger", "--port", port)
        ended = subprocess.run(
            args, env=environ(), cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("password", ["", "s3cr3t"])
def test_an_open_address_is_told(tmp_path, password):
    args = [sys.executable, "-W", "error", "-m", MODULE, "--port", "0"]
    args += ["--host", "0.0.0.0"]  # noqa: S104 - as in a container
    env = {**environ(), "SEGMENT_WEB_PASSWORD": password}
    with subprocess.Popen(args, env=env, cwd=tmp_path, stdout=-1, text=True) as process:
        port = process.stdout.readline().strip().rpartition(":")[2]
        if not password:
            told = "whoever reaches this address sees what arrives: set SEGMENT_WEB_PASSWORD\n"
            assert process.stdout.readline() == told
        page = f"http://127.0.0.1:{port}/"
        assert requests.get(page, timeout=20).status_code == (401 if password else 200)
        assert requests.get(page, auth=("", password), timeout=20).ok
        process.terminate()
        assert process.communicate(timeout=20)[0].startswith("0 requests, ")
