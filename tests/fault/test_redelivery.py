"""Tasks that the broker delivers again track once: their workers are killed at random."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from celery_segment import Analytics
from support import wait_until

#: Tasks per run, each of which makes two calls; SEGMENT_TEST_TASKS=1000 has workers killed often.
TASKS = int(os.environ.get("SEGMENT_TEST_TASKS", "16"))
SEED = int(os.environ.get("SEGMENT_TEST_SEED", "7"))
#: Of so many tasks, one kills its own process between its calls and its end.
DYING = 8
CONF = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "segment_timeout": 2.0,
    "segment_lease": 3.0,
    "broker_transport_options": {"visibility_timeout": 2, "polling_interval": 0.2},
}


class Crew:
    """A worker that is killed now and then, and replaced."""

    def __init__(self, app, redis, workers) -> None:
        self.app, self.redis, self.workers = app, redis, workers
        self.random = random.Random(SEED)
        self.killed: Counter[str] = Counter()
        self.lost = 0
        self.worker = self._start()

    def _start(self):
        return self.workers.start(self.app, module="trackingtasks")

    def done(self) -> int:
        return self.redis.scard("done")

    def kill_process(self) -> None:
        """Kill one of the worker's processes, as the kernel does for want of memory."""
        parent = self.worker.process.pid
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii")
        children = [int(pid) for pid in listed.split()]
        if children:
            os.kill(self.random.choice(children), signal.SIGKILL)
            self.killed["processes"] += 1

    def kill_worker(self) -> None:
        """Kill the worker with its processes; the next one gets its tasks, as it starts."""
        self.worker.kill()
        self.killed["workers"] += 1
        time.sleep(CONF["broker_transport_options"]["visibility_timeout"])
        self.worker = self._start()

    def run(self, publish) -> None:
        """Kill until all tasks are done; publish again what the broker itself has lost."""
        kills = max(1, 4 * TASKS // 100)
        while self.done() < TASKS:
            soon = min(self.done() + 10, TASKS)
            if self.killed.total() < kills:
                (self.kill_worker if self.random.random() < 0.2 else self.kill_process)()
            try:
                wait_until(lambda soon=soon: self.done() >= soon, 3)
            except AssertionError:
                self._go_on(publish)

    def _go_on(self, publish) -> None:
        if self.done() < TASKS and not self.redis.llen("celery"):
            if self.redis.hlen("unacked"):  # given back as a worker starts
                self.kill_worker()
            else:
                self._publish_lost(publish)

    def _publish_lost(self, publish) -> None:
        for number in range(TASKS):
            if not self.redis.sismember("done", number):
                publish(number)
                self.lost += 1


def run(app, redis, workers, server, **options):
    """Run the tasks; return how often a task ran, and the messages by their ids."""

    def publish(number):
        kwargs = {**options, "dies": number % DYING == 0}
        app.send_task("tests.order", (number,), kwargs, task_id=f"order-{number}")

    for number in range(TASKS):
        publish(number)
    crew = Crew(app, redis, workers)
    crew.run(publish)
    runs, contents = int(redis.get("runs")), settled(server)
    calls = sum(server.received.values())
    sys.stdout.write(
        f"tasks {TASKS}, runs {runs}, killed {dict(crew.killed)}, lost by the broker {crew.lost};"
        f" messages {calls}, distinct {len(contents)}\n"
    )
    return runs, contents


def settled(server):
    """Return the contents that arrived with each id, once all that was called has arrived."""
    wait_until(lambda: not Analytics().stats().waiting, 60)
    contents: dict[str, set[str]] = {}
    for request in server.requests:
        for message in request.messages:
            said = f"{message['userId']}: {message['event']} {message['properties']}"
            contents.setdefault(message["messageId"], set()).add(said)
    return contents


def check_once(contents):
    assert all(len(each) == 1 for each in contents.values()), "an id of two different messages"
    said = Counter(text for each in contents.values() for text in each)
    total = "shop: Order Placed {'total': 5}"
    assert said.pop(total) == TASKS
    assert len(said) == TASKS
    assert set(said.values()) == {1}


def test_a_task_that_is_delivered_again_tracks_once(make_app, redis, workers, server):
    app = make_app(**CONF)
    runs, contents = run(app, redis, workers, server)
    assert runs >= TASKS + TASKS // DYING, "no task ran again"
    assert len(contents) == 2 * TASKS
    check_once(contents)


def test_a_task_that_is_retried_tracks_once_as_well(make_app, redis, workers, server):
    app = make_app(**CONF, segment_idempotency="task")
    runs, contents = run(app, redis, workers, server, retries=1)
    assert runs >= 2 * TASKS + TASKS // DYING
    assert len(contents) == 2 * TASKS
    check_once(contents)


def test_where_it_is_off_each_run_counts(make_app, redis, workers, server):
    app = make_app(**CONF, segment_idempotency="off")
    runs, contents = run(app, redis, workers, server)
    assert runs >= TASKS + TASKS // DYING
    assert len(contents) >= 2 * (TASKS + TASKS // DYING)
