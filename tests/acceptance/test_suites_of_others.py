"""A Django project's suite under each runner: green as it was, and no call leaves it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from support import TESTS, stored

PROJECT = TESTS / "trackedproject"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
MANAGE = ("manage.py", "test", "--noinput")


def run(*command, broker, environ=(), **settings):
    """Run the project's tests in a process; return its output."""
    plain = {k: v for k, v in os.environ.items() if k not in {"SEGMENT_CAPTURE", "PYTEST_ADDOPTS"}}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env={**plain, "BROKER": broker, "MORE_SETTINGS": json.dumps(settings), **dict(environ)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@contextmanager
def listener():
    """Yield the URL of a Redis that answers nobody, and a list of those who have asked."""
    asked = []

    def accept():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            asked.append(client)
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


RUNNERS = {
    "pytest": (*PYTEST, "shop/tests.py"),
    "pytest with xdist": (*PYTEST, "-n", "2", "shop/tests.py"),
    "django": MANAGE,
    "django, forked": (*MANAGE, "--parallel", "2"),
    "django, spawned": (*MANAGE, "--parallel", "2"),
}
METHODS = {"django, forked": "fork", "django, spawned": "spawn"}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_suite_is_green_and_nothing_leaves(runner):
    with listener() as (url, asked):
        environ = {"START_METHOD": METHODS.get(runner, "")}
        output = run(*RUNNERS[runner], broker=url, environ=environ)
    assert "12 passed" in output or "Ran 12 tests" in output
    assert not asked


def test_a_suite_is_green_where_no_redis_is_configured():
    assert "Ran 12 tests" in run(*MANAGE, broker="amqp://127.0.0.1:1//")


def test_tests_that_ask_for_it_are_stored(redis, redis_server):
    output = run(*PYTEST, "shop/tracked_tests.py", broker=redis_server.url)
    assert "7 passed" in output
    assert {m["event"] for m in stored(redis)} == {"decorated", "in a block", "marked"}


def test_they_are_under_djangos_runner(redis, redis_server):
    run(*MANAGE, "-p", "tracked_tests.py", broker=redis_server.url)
    assert {m["event"] for m in stored(redis)} == {"decorated", "in a block"}


def test_a_suite_may_be_stored_as_a_whole(redis, redis_server):
    settings = {"CELERY_SEGMENT_CAPTURE_TESTS": False}
    run(*MANAGE, "-k", "Commits", broker=redis_server.url, **settings)
    assert [m["type"] for m in stored(redis)] == ["identify", "track", "identify"]
