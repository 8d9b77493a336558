"""The state of each source, and the workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from celery.utils.nodenames import gethostname

from celery_segment import Analytics
from celery_segment.operations import health, interviews
from celery_segment.operations.interviews import Answers
from checks import findings, rendered, store
from support import DEFAULTS, TESTS, WRITE_KEY, free_port, let_pass

# ---------------------------------------------------------------- sources


def test_a_paused_source(app):
    Analytics(app=app).pause()
    found = findings(app, status=0)["default", "gate"]
    expected = "warn paused by an operator: run `celery segment resume --source default`"
    assert rendered(found) == expected


def test_a_source_that_its_endpoint_closed(app, redis):
    buffer = store(app)
    (batch,) = buffer.claim(1)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "refused", 0.0, "404 Not\x1b Found", breaker=(1, 90.0, 90.0))
    found = findings(app, status=0)["default", "gate"]
    assert rendered(found).startswith(
        "warn closed for 1 min 30 s: 404 Not\N{REPLACEMENT CHARACTER}"
    )
    let_pass(redis, 91)
    found = findings(app)["default", "gate"]
    assert rendered(found).startswith("warn the next batch tests whether it works again: 404 Not�")
    buffer.admin.resume()
    assert findings(app)["default", "gate"]["state"] == "ok"


def test_messages_that_no_worker_takes(make_app, redis):
    app = make_app(segment_flush_interval=0.1, segment_lease=1.5, segment_timeout=0.5)
    buffer = store(app)
    redis.hincrby("{segment:default}:state", "since", -250)
    found = findings(app)["default", "oldest"]
    expected = (
        "warn 1 message waiting, the oldest for 0 s, and no worker claims them: start a worker"
    )
    assert rendered(found).startswith(expected)
    redis.hincrby("{segment:default}:state", "since", -3_000)
    found = findings(app, status=1)
    assert rendered(found["workers"]).startswith("fail no worker answers, and messages wait: start")
    found = found["default", "oldest"]
    assert re.match(
        "fail 1 message waiting, the oldest for [34] s, and no worker claims them", rendered(found)
    )
    # Not the workers' fault: nobody may take them.
    buffer.admin.pause()
    assert rendered(findings(app, status=0)["default", "oldest"]).endswith("see the gate check")
    buffer.admin.resume()
    # Nor when a worker is at it, as with a backlog, or a batch that is being retried …
    buffer.claim(1)
    found = findings(app, status=1)["default", "oldest"]
    assert re.match("warn 1 message waiting, the oldest for [34] s: workers are", rendered(found))
    # … until it dies.
    redis.zadd("{segment:default}:inflight", {"1": 1_000}, xx=True)
    assert findings(app, status=1)["default", "oldest"]["state"] == "fail"


def test_the_queue_that_no_worker_consumes_is_named(make_app, redis):
    app = make_app(segment_queue="analytics", segment_flush_interval=0.1)
    assert rendered(findings(app, status=0)["workers"]) == (
        "warn no worker answers: start one with `celery worker -Q analytics`; if one runs, give it"
        " the broker_url of this process"
    )
    store(app)
    redis.hincrby("{segment:default}:state", "since", -250)
    found = findings(app)
    assert rendered(found["default", "oldest"]).endswith(
        "no worker claims them: start a worker that consumes segment_queue:"
        " `celery worker -Q analytics`"
    )


def test_dead_letters(make_app):
    app = make_app(segment_sources={"b": {}})
    buffer = store(app, "b")
    (batch,) = buffer.claim(1)
    buffer.bury(buffer.begin(batch.id, "token"), "400 Bad Request", answered=True)
    found = findings(app, status=0)
    assert rendered(found["b", "dead letters"]) == (
        "warn 1 message: `celery segment dead list --source b` shows why"
    )
    assert rendered(found["default", "dead letters"]) == "ok none"


# ---------------------------------------------------------------- workers and processes


def test_a_worker_answers_and_a_container_may_ask(app, workers, ask_workers, tmp_path):
    workers.start(app, processes=1)
    assert len(ask_workers(app).able) == 1
    conf = {**DEFAULTS, "broker_url": app.conf.broker_url, "segment_host": app.conf.segment_host}
    env = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-W", "error", "-m", "celery", "-A", "workerapp", "segment", "check"]
    done = subprocess.run(
        [*command, "--strict"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    assert "1 worker answers" in done.stdout
    assert WRITE_KEY not in done.stdout


def test_one_worker_is_judged_by_what_is_its_own(app, workers, ask_workers, monkeypatch, server):
    monkeypatch.setattr(health, "ask_workers", ask_workers)
    workers.start(app, processes=1)  # it answers for itself
    worker = workers.start(app, processes=1)
    server.stop()  # which no restart of a worker mends
    started = time.monotonic()
    found = findings(app, "--worker", worker.name)
    assert time.monotonic() - started < interviews.WORKER - 1
    assert list(found) == ["settings", "worker", ("default", "write key")]
    assert rendered(found["worker"]) == f"ok {worker.name} answers"
    worker.signal(signal.SIGSTOP)
    found = findings(app, "--worker", worker.name, status=1)
    assert rendered(found["worker"]).startswith(
        f"fail {worker.name} does not answer: check that it runs"
    )


def test_one_worker_is_named_as_it_is_started(app, monkeypatch):
    def answers(_, name):
        return Answers({name: ["segment.deliver" if name.startswith("celery@") else "t"]})

    monkeypatch.setattr(health, "ask_workers", answers)
    host = gethostname()
    assert rendered(findings(app, "--worker", "celery@%h")["worker"]) == f"ok celery@{host} answers"
    found = findings(app, "--worker", "other@%h", status=1)["worker"]
    assert rendered(found) == (
        f"fail other@{host} does not have the task segment.deliver:"
        " set imports = ['celery_segment'] in its configuration"
    )


def test_no_worker_answers_without_the_broker(make_app, ask_workers, monkeypatch):
    monkeypatch.setattr(health, "ask_workers", ask_workers)
    app = make_app(broker_url=f"redis://:passw0rd@127.0.0.1:{free_port()}/0")
    found = findings(app, "--worker", "celery@%h", status=1)
    assert rendered(found["workers"]).startswith(
        "fail the broker is unreachable (OperationalError)"
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"a": ["segment.deliver"], "b": ["t", "segment.deliver"]}, "ok 2 workers answer"),
        ({"a": ["t"], "b": ["segment.deliver"]}, "ok 1 worker answers"),
        (
            {"a": ["segment.delivered"], "b": {"error": "segment.deliver"}},
            (
                "warn 2 workers without the task segment.deliver:"
                " set imports = ['celery_segment'] in their configuration"
            ),
        ),
    ],
)
def test_what_workers_answer(app, monkeypatch, answers, expected):
    monkeypatch.setattr(health, "ask_workers", lambda _: Answers(answers))
    assert rendered(findings(app, status=0)["workers"]) == expected
