"""`segment check` interviews real workers, and names the mistake in its first failing line."""

from __future__ import annotations

import json

from celery_segment import Analytics
from celery_segment.testing import EmbeddedRedis
from checks import findings, rendered, run, store
from commands import environ as commands_environ
from commands import process
from support import TESTS, WRITE_KEY, Worker, wait_until

#: Has a process not know that a test of pytest's starts it.
NO_TESTS = {"PYTEST_VERSION": "", "PYTEST_CURRENT_TEST": ""}


def first_failure(app, *args):
    """Return the first failing line of the command, without its columns."""
    result = run(app, *args)
    assert result.exit_code == 1, result.output
    return first_failing(result.output)


def first_failing(output):
    (line, *_) = (line for line in output.splitlines() if line.startswith("fail"))
    return " ".join(line.split())


def test_a_worker_on_another_redis(make_app, workers, redis_server):
    app = make_app(segment_redis_url=redis_server.url)
    with EmbeddedRedis() as other:
        worker = workers.start_answering(app, processes=1, segment_redis_url=other.url)
        said = first_failure(app)
        assert said == (
            f"fail - buffer {worker.name} delivers from 127.0.0.1:{other.port}, database 0; this"
            f" process stores in 127.0.0.1:{redis_server.port}, database 0: give both the same"
            " segment_redis_url"
        )
        # By another name it is the same server; another worker of another Redis does no harm.
        alias = redis_server.url.replace("127.0.0.1", "localhost")
        workers.start_answering(app, processes=1, segment_redis_url=alias)
        found = findings(app, status=0)
        assert found["buffer"]["state"] == "warn"
        assert found["buffer"]["found"].startswith(f"{worker.name} delivers from 127.0.0.1:")


def test_a_worker_on_another_broker(make_app, workers, redis_server):
    app = make_app()
    store(app)
    with EmbeddedRedis() as other:
        workers.start(app, processes=1, broker_url=other.url)
        wait_until(lambda: Analytics().stats().oldest >= 1)
        assert first_failure(app) == (
            f"fail - workers no worker answers at redis://127.0.0.1:{redis_server.port}/0, and"
            " messages wait: start one with `celery worker`; if one runs, give it the broker_url"
            " of this process"
        )


def test_no_key_in_the_worker(make_app, workers):
    app = make_app()
    worker = workers.start_answering(app, processes=1, segment_write_key=None)
    expected = (
        "fail default write key no worker has it, only this process: give the workers"
        " segment_write_key, or SEGMENT_WRITE_KEY in the environment, and restart them"
    )
    assert first_failure(app) == expected
    # One that has the key delivers, and the environment of a web process needs none.
    workers.start_answering(app, processes=1)
    found = findings(make_app(segment_write_key=None), status=0)
    said = rendered(found["default", "write key"])
    assert said.startswith(f"warn absent in {worker.name}, which leaves the source to others")


def test_a_worker_that_treats_the_calls_of_tasks_in_another_way(make_app, workers):
    app = make_app(segment_propagate_visitor=True)
    conf = {"segment_idempotency": "task", "segment_propagate_visitor": False}
    worker = workers.start_answering(app, processes=1, **conf)
    found = findings(app, status=0)
    expected = f"warn {worker.name} has segment_idempotency 'task'; this process 'attempt'"
    assert rendered(found["idempotency"]).startswith(expected)
    expected = f"warn {worker.name} does not read the visitor that this process sends"
    assert rendered(found["visitor"]).startswith(expected)


def test_a_queue_that_nobody_consumes(make_app, workers):
    app = make_app(segment_queue="analytics")
    worker = workers.start_answering(app, processes=1)
    assert first_failure(app) == (
        "fail - queue no worker consumes 'analytics', the queue of segment.drain;"
        f" {worker.name} consumes 'celery': start a worker with `celery worker -Q analytics`, or"
        " change segment_queue"
    )
    app.control.add_consumer("analytics", destination=[worker.name], reply=True)
    found = findings(app, status=0)
    assert rendered(found["queue"]) == "ok 'analytics' is consumed by 1 worker"


def test_a_worker_that_captures_has_another_signing_key_and_logs_nothing(
    make_app, workers, tmp_path
):
    keys = {"own": "o" * 32, "theirs": "t" * 32}
    app = make_app(segment_signing_key=keys["own"])
    (tmp_path / "silent.py").write_text(
        "import logging, celery_segment\n"
        "from workerapp import app\n"
        "logging.getLogger('celery_segment').disabled = True\n"
    )
    worker = workers.start_answering(
        app,
        processes=1,
        environ={**NO_TESTS, "PYTHONPATH": f"{TESTS}:{tmp_path}", "SEGMENT_CAPTURE": "1"},
        module="silent",
        segment_signing_key=keys["theirs"],
    )
    result = run(app, "--json")
    assert not [key for key in keys.values() if key in result.output + worker.output]
    found = {each["check"]: each for each in json.loads(result.stdout)}
    assert rendered(found["callbacks"]) == (
        f"fail {worker.name} has another segment_signing_key, so it refuses those of this process:"
        " give all processes the same SEGMENT_SIGNING_KEY, and restart them"
    )
    assert f"SEGMENT_CAPTURE is 1 in {worker.name}" in found["capture"]["found"]
    assert found["log"]["found"].startswith(f"{worker.name} logs none")


def test_calls_that_are_captured_though_no_tests_run(make_app, tmp_path):
    app = make_app()
    conf = {name: app.conf[name] for name in ("broker_url", "segment_host")}
    environ = {**commands_environ(**conf), **NO_TESTS, "SEGMENT_CAPTURE": "1"}
    done = process(["-A", "workerapp", "segment", "check"], environ, tmp_path)
    assert done.returncode == 1
    assert first_failing(done.stdout) == (
        "fail - capture calls are captured as in tests, and never delivered: SEGMENT_CAPTURE is 1"
        " here: remove it from the environment"
    )
    # A test that starts a process means it.
    assert "capture" not in findings(app)


def test_json_is_not_accepted(make_app, tmp_path):
    conf = {"accept_content": ["pickle"], "task_serializer": "pickle"}
    app = make_app(**conf)
    conf |= {name: app.conf[name] for name in ("broker_url", "segment_host")}
    worker = Worker(tmp_path, conf, "w1", ("--concurrency", "1"), {"C_FORCE_ROOT": "1"})
    wait_until(lambda: worker.process.poll() is not None)
    expected = "accept_content = ['pickle'] discards the messages of this library's tasks"
    assert expected in worker.output
    assert first_failure(app).startswith(f"fail - tasks {expected}, which are JSON: add 'json' to")


def test_a_write_key_by_the_wrong_name_in_djangos_settings(
    app, redis_server, server, workers, tmp_path
):
    settings = {
        "CELERY_BROKER_URL": redis_server.url,
        "CELERY_SEGMENT_HOST": server.url,
        "CELERY_SEGMENT_WRITE_KEY": None,
        "SEGMENT_WRITE_KEY": WRITE_KEY,
    }
    environ = {"SHOP_SETTINGS": json.dumps(settings), "SHOP_DATABASE": str(tmp_path / "db")}
    workers.start_answering(app, processes=1, environ=environ, module="djangoproject")
    expected = (
        "SEGMENT_WRITE_KEY in your settings is not read: rename it to CELERY_SEGMENT_WRITE_KEY, or"
        " set it in the environment"
    )
    environ = {**commands_environ(), **environ}
    done = process(["-A", "djangoproject", "segment", "check"], environ, tmp_path)
    assert first_failing(done.stdout) == f"fail default write key no worker has it: {expected}"
    assert done.returncode == 1
