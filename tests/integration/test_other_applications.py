"""Applications in whose process this library is imported, and which do not use it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.result import allow_join_result
from kombu.transport import memory

from celery_segment import ConfigurationError, track
from celery_segment.worker.bootsteps import Tick
from support import free_port


def add(a, b):
    return a + b


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A worker in this process changes the root logger, for all tests that follow."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def other():
    """Make applications that have nothing to do with this library."""
    made = []

    def make(**conf):
        app = Celery("other", set_as_current=False)
        app.conf.update({"result_backend": "cache+memory://", **conf})
        app.task(add, name="add")
        app.finalize()
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()
    memory.Transport.global_state.clear()


@pytest.fixture(autouse=True)
def _level_of_the_log():
    """Undo what a worker in this process sets: later tests look at warnings."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)


@pytest.fixture
def make_worker():
    """Make workers in this process, which stays one that may wait for results."""
    with allow_join_result():
        yield lambda app: app.WorkController(pool="solo")


def steps_of(worker):
    return {type(step) for step in worker.consumer.steps}


@pytest.mark.parametrize("broker", ["memory://", "memory://;memory://other"])
def test_a_worker_without_redis_and_settings_is_left_alone(other, broker):
    app = other(broker_url=broker)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20) as worker:
        assert app.tasks["add"].delay(1, 2).get(timeout=10) == 3
        assert Tick not in steps_of(worker)
    with pytest.raises(ConfigurationError, match="segment_redis_url is needed"):
        app.tasks[track.name].delay("u", "E")


def test_a_write_key_of_the_environment_is_not_the_applications(other, make_worker, monkeypatch):
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "k3y")
    app = other(broker_url="memory://", segment_redis_url=None)
    make_worker(app)


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"segment_write_key": "k"}, "segment_redis_url is needed"),
        ({"segment_flush_at": 0}, "segment_flush_at"),
        ({"segment_flush_att": 5}, "segment_flush_at"),
        ({"segment_redis_url": "redis://h?ssl_foo=1"}, "ssl_foo"),
    ],
)
def test_a_worker_with_wrong_settings_is_refused(other, make_worker, conf, told):
    app = other(broker_url="memory://", **conf)
    with pytest.raises(ConfigurationError, match=told):
        make_worker(app)


def test_a_worker_that_rabbitmq_would_refuse_its_queues_is_refused(other, make_worker):
    quorum = {"task_default_queue_type": "quorum", "worker_detect_quorum_queues": False}
    conf = {"segment_write_key": "k", "segment_redis_url": f"redis://127.0.0.1:{free_port()}"}
    with pytest.raises(ConfigurationError, match="remove worker_detect_quorum_queues = False"):
        make_worker(other(broker_url="amqp://", **quorum, **conf))
    # No other broker has such queues, and a worker that detects them is well.
    make_worker(other(broker_url="memory://", **quorum, **conf))
    make_worker(other(broker_url="amqp://", task_default_queue_type="quorum", **conf))
    make_worker(other(broker_url="amqp://", worker_detect_quorum_queues=False, **conf))


def test_no_current_application_is_told_as_such(tmp_path):
    program = (
        "from celery_segment import ConfigurationError, track\n"
        "try:\n    track.delay('u', 'E')\n"
        "except ConfigurationError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", program]
    # Celery's default application reads a celeryconfig of the directory.
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert run.stdout.startswith("no Celery application is current here")
    assert "set_default()" in run.stdout
