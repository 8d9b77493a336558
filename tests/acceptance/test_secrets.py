"""The write key is found nowhere but in the worker's configuration and its requests."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from authorization import TOKEN, AuthorizationServer
from celery_segment import Analytics, track
from celery_segment.testing import Reply, SegmentServer
from support import DEFAULTS, TESTS, WRITE_KEY, content_of, wait_until

PASSWORD = "p4ssw0rd"
SECRETS = (
    WRITE_KEY.encode(),
    base64.b64encode(f"{WRITE_KEY}:".encode()),
    PASSWORD.encode(),
    TOKEN.encode(),
)


@pytest.fixture
def auth():
    with AuthorizationServer() as auth:
        yield auth


@pytest.fixture
def server(auth):
    with SegmentServer(check_token=auth.check_token) as server:
        yield server


@pytest.fixture
def flower(app, tmp_path):
    """A real Flower on the application; gives a function that reads its API."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    conf = {**DEFAULTS, "broker_url": app.conf.broker_url}
    environ = {
        **os.environ,
        "TESTS_CONF": json.dumps(conf),
        "PYTHONPATH": str(TESTS),
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    command = [sys.executable, "-m", "celery", "-A", "workerapp", "flower", "--address=127.0.0.1"]
    with (tmp_path / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--port={port}", "--logging=debug"],
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )

    def get(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.read()
        except OSError:
            return b""

    wait_until(lambda: get("/healthcheck"), 30, "Flower does not answer")
    yield get
    process.send_signal(signal.SIGINT)
    process.wait(10)


def test_the_keys_stay_with_the_worker(app, redis, server, auth, workers, flower, tmp_path):
    server.fail_messages(lambda message: message["event"] == "bad")
    server.reply(Reply.status(500))
    proxies = {"ftp": f"http://user:{PASSWORD}@proxy"}
    worker = workers.start(app, "-E", segment_proxies=proxies, segment_oauth=auth.oauth())
    for number in range(60):
        track.delay("u", "bad" if number == 30 else f"E{number}", {"payload": "p4yl04d"})
    assert Analytics().flush(20) == 0
    wait_until(lambda: b"segment.deliver" in flower("/api/tasks"), 10)
    assert Analytics().stats().dead.messages == 1
    track.delay("u", "still here")

    places = {"worker's log": worker.output.encode(), "flower's log": _read(tmp_path, "flower.log")}
    for path in ("/api/tasks", "/api/workers?refresh=1", "/tasks", "/workers", "/metrics"):
        places[f"flower {path}"] = flower(path)
    page = f"/worker/{worker.name}"
    wait_until(lambda: b"segment_proxies" in flower(page), 10)
    places[f"flower {page}"] = flower(page)
    detail = json.loads(flower("/api/tasks"))
    for task in list(detail)[:20]:
        places[f"flower task {task}"] = flower(f"/api/task/info/{task}") + flower(f"/task/{task}")
    for key in redis.keys("*"):
        # The worker is at work: a key may be gone by now, and holds nothing then.
        places[f"redis {key!r}"] = (redis.dump(key) or b"") + key + content_of(redis, key)
    assert len(places) > 15
    assert auth.granted
    lines = [line.encode() for line in auth.pem().splitlines() if "-----" not in line]
    secrets = (*SECRETS, *lines, *(assertion.encode() for assertion in auth.assertions))
    for place, content in places.items():
        assert content, place
        for secret in secrets:
            assert secret not in content, f"a secret is in {place}"
        if not place.startswith("redis"):
            assert b"p4yl04d" not in content, f"a payload is in {place}"

    reprs = [repr(Analytics()), repr(app.conf.humanize()), app.bugreport()]
    assert not any(WRITE_KEY in text for text in reprs)


def _read(folder, name):
    return (folder / name).read_bytes()
