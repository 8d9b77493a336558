"""A move from one source to another is killed, anywhere and again and again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from functools import partial

from celery_segment.buffer import Attachments
from celery_segment.operations.moving import rename
from commands import environ, process
from moving import AFTER, BEFORE, assert_accounted, fill, message, move, stats
from support import buffer_of, wait_until

MESSAGES = 3 + 2 + 4 + 3


def fork(call) -> int:
    """Call in a child, which ends with 0 where it is not killed; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # xdist's threads do not matter
        child = os.fork()
    if child == 0:
        try:
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def kill_after(app, commands: int) -> None:
    """Move, and be killed as soon as Redis has carried out so many commands."""
    moving = rename(app, "old", "new")
    pool = moving._old._server
    exchange, left = pool._exchange, [commands]

    def last_exchange(*args, **kwargs):
        reply = exchange(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    pool._exchange = last_exchange
    moving.run(0)


def fill_everything(before) -> None:
    """Store messages in each of the states that can be moved."""
    old = buffer_of(before, "old")
    fill(before, 0, 3)
    (batch,) = old.claim(1)
    old.bury(old.begin(batch.id, "t"), "400", status="400", answered=True)
    fill(before, 3, 2)
    (batch,) = old.claim(1)
    held = old.begin(batch.id, "t")
    old.retry(held, "failure", 600.0, "503", "503", breaker=(5, 1.0, 60.0))
    attachments = {0: Attachments(b"[]", b"00-a-b-01")}
    old.append_many([message(n) for n in range(5, 9)], attachments)
    old.admin.mark()
    fill(before, 9, 3)


def test_killed_after_each_command_and_repeated(make_app, redis):
    before, app = make_app(**BEFORE), make_app(**AFTER)
    commands = 0
    while True:
        commands += 1
        redis.flushall()
        redis.script_flush()
        fill_everything(before)
        _, status = os.waitpid(fork(partial(kill_after, app, commands)), 0)
        for source in ("old", "new"):
            assert_accounted(redis, source)
        move(app)
        assert redis.keys("{segment:old}*") == [], commands
        assert_accounted(redis, "new")
        found = stats(app)
        assert (found.accepted, found.dead.messages, found.ready.messages) == (MESSAGES, 3, 9)
        assert (found.buried, found.retries) == (3, 1), commands
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert commands > 20


def test_killed_again_and_again_in_a_rolling_deploy(
    make_app, redis, redis_server, server, workers, tmp_path
):
    before, app = make_app(**BEFORE), make_app(**AFTER)
    chance = random.Random(13)
    fill(before, 0, 3_000)
    numbers = iter(range(3_000, 10**6))
    ends = threading.Event()

    def call(source):
        while not ends.is_set():
            buffer_of(before, source).append(message(next(numbers)))
            time.sleep(0.001)

    def moved():
        return int(redis.hget("{segment:new}:state", "received") or 0)

    callers = [threading.Thread(target=call, args=(source,)) for source in ("old", "new")]
    workers.start(before, processes=2)  # of before the deploy: it delivers both
    workers.start(app, processes=2)
    for each in callers:
        each.start()
    try:
        for kills in range(400):
            if kills >= 40 and moved() > 10:
                break
            child = fork(lambda: rename(app, "old", "new").run(5))
            time.sleep(chance.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    finally:
        ends.set()
        for each in callers:
            each.join()
    stored = next(numbers)
    args = ["-A", "workerapp", "segment", "rename", "old", "new"]
    done = process(args, environ(broker_url=redis_server.url, **AFTER), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing remains\n")
    assert wait_until(lambda: len(server.received) >= stored, 30)
    wait_until(lambda: stats(app).delivered.messages == stored)
    arrived = Counter(m["messageId"] for m in server.messages)
    assert arrived == dict.fromkeys((f"m{n}" for n in range(stored)), 1)
    assert redis.keys("{segment:old}*") == []
    assert stats(app).accepted == stored
    assert moved() > 10, "few batches were moved"
    assert_accounted(redis, "new")
