"""Real workers deliver with tokens, while everything about the tokens goes wrong."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest

from authorization import KEY_ID, AuthorizationServer, refusal
from celery_segment import Analytics, track
from celery_segment.testing import Reply, SegmentServer
from support import DEFAULTS, TESTS, WRITE_KEY, content_of, wait_until

EVENTS, PART = 10_000, 100


@pytest.fixture
def auth():
    with AuthorizationServer(life=2.0) as auth:
        yield auth


@pytest.fixture
def server(auth):
    # A worker may have begun a request before it can know of another's 429.
    with SegmentServer(
        check_token=auth.check_token, write_keys=[WRITE_KEY], in_flight_grace=0.25
    ) as server:
        yield server


def oauth_app(make_app, auth, **more):
    conf = {"segment_timeout": 2, "segment_lease": 10, "segment_max_batch_messages": 50}
    return make_app(**conf, segment_oauth=auth.oauth(**more))


@contextmanager
def trouble(auth, server):
    """Break something about tokens every fifth of a second, in a block."""
    chance, stop = random.Random(20261126), threading.Event()
    kinds = [
        auth.revoke_all,
        *(partial(server.reply, Reply.status(status)) for status in (401, 403, 511)),
        partial(auth.reply, Reply.status(429, headers={"X-RateLimit-Reset": "1"})),
        partial(auth.reply, refusal(400, "invalid_request", "Token is expired")),
        partial(auth.reply, Reply.status(500)),
        partial(auth.reply, Reply.close()),
        lambda: setattr(auth, "ahead", 3_600 - auth.ahead),
    ]

    def run():
        while not stop.wait(0.2):
            chance.choice(kinds)()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        auth.restore()


def test_ten_thousand_events_while_everything_about_tokens_goes_wrong(
    make_app, auth, server, workers, redis
):
    auth.ahead = 3_600
    app = oauth_app(make_app, auth)
    running = [workers.start(app, "-E", processes=2) for _ in range(2)]
    ids = set()
    with trouble(auth, server):
        for number in range(EVENTS // PART):
            with Analytics().batch():
                ids |= {track.delay("u", f"E{number}", {"n": n}).id for n in range(PART)}
            time.sleep(0.06)
        stored = {key: content_of(redis, key) for key in redis.keys("*")}
    shown = celery(app, "inspect", "conf", "-d", running[0].name) + celery(app, "report")
    assert Analytics().flush(60) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0
    stats = Analytics().stats()
    assert (stats.delivered.messages, stats.dead.messages) == (EVENTS, 0)
    # Each kind of trouble was met, and yet no token was used after its end.
    assert {200, 400, 429, 500} <= {*auth.requests}
    assert {401, 200} <= {request.status for request in server.requests}
    assert server.violations == []
    assert len(auth.granted) > 8
    assert len(auth.assertions) == len({*auth.assertions})
    assert {request.scheme for request in server.requests} == {"bearer"}

    places = {f"redis {key!r}": repr(content) for key, content in stored.items()}
    places |= {worker.name: worker.output for worker in running} | {"shown": shown}
    places["here"] = repr(app.conf.humanize()) + repr(Analytics())
    lines = [line for line in auth.pem().splitlines() if "-----" not in line]
    for place, text in places.items():
        for secret in (*lines, *auth.granted, *auth.assertions, WRITE_KEY):
            assert secret not in text, f"a secret is in {place}"


def celery(app, *arguments):
    """Run one of Celery's own commands, in a process of its own; return what it prints."""
    own = {k: v for k, v in app.conf.changes.items() if k.startswith(("segment_", "broker_url"))}
    conf = {**DEFAULTS, **own}
    environ = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "celery", "-A", "workerapp", *arguments]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "segment_oauth" in run.stdout
    return run.stdout + run.stderr


def test_a_key_is_replaced_worker_by_worker(make_app, auth, server, workers):
    auth.add_key("new")
    old = oauth_app(make_app, auth)
    first = workers.start(old, processes=1)
    ids = {track.delay("u", f"E{n}").id for n in range(100)}
    assert server.wait_for_messages(100, timeout=10)
    second = workers.start(old, processes=1, segment_oauth=auth.oauth("new"))
    auth.remove_key(KEY_ID)
    # The old worker is told, and leaves the source to the new one.
    deadline = time.monotonic() + 40
    while "the authorization server answers 401" not in first.output:
        assert time.monotonic() < deadline
        ids |= {track.delay("u", f"E{n}").id for n in range(10)}
        time.sleep(0.05)
    ids |= {track.delay("u", f"F{n}").id for n in range(100)}
    assert Analytics().flush(30) == 0
    assert set(server.received) == ids
    assert Analytics().stats().dead.messages == 0
    assert first.stop() == second.stop() == 0


@pytest.mark.parametrize("wrong", ["/nowhere/key.pem", "-----BEGIN PRIVATE KEY-----\ns3cr3t"])
def test_a_worker_refuses_to_start_with_a_wrong_key(make_app, auth, workers, wrong):
    app = oauth_app(make_app, auth, private_key=wrong)
    with pytest.raises(AssertionError, match="the worker ended"):
        workers.start(app, processes=1)
    output = workers._all[-1].output
    assert "ConfigurationError: private_key in segment_oauth of source 'default'" in output
    assert "nowhere" not in output
    assert "s3cr3t" not in output


def test_the_credentials_may_be_in_the_environment(make_app, auth, server, workers):
    app = make_app()
    environ = {"SEGMENT_OAUTH": json.dumps(auth.oauth()), "SEGMENT_WRITE_KEY": WRITE_KEY}
    workers.start(app, processes=1, environ=environ)
    track.delay("u", "E")
    wait_until(lambda: [r.scheme for r in server.requests] == ["bearer"])
