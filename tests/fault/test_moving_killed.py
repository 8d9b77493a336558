"""A move from one source, or one Redis, to another is killed, anywhere and again and again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from celery_segment.buffer import Attachments
from celery_segment.buffer.pool import Pool
from celery_segment.operations.emptying import empty
from celery_segment.operations.moving import SourceMove, rename
from celery_segment.operations.moving import run as run_moves
from celery_segment.testing import EmbeddedRedis
from commands import environ, ok, process
from moving import AFTER, BEFORE, assert_accounted, fill, message, stats
from support import WRITE_KEY, buffer_of, wait_until
from topologies import Cluster

MESSAGES = 3 + 2 + 4 + 3


@dataclass
class Moving:
    """What is moved, by applications before and after.

    Attributes:
        before: The application with the old source.
        app: The application with the new one.
        old: The name of the old source.
        new: The name of the new one.
        old_redis: A client of the Redis of the old source.
        new_redis: A client of that of the new one.
        make: Makes the move.
        command: The arguments of the command that moves the same.
    """

    before: Any
    app: Any
    old: str
    new: str
    old_redis: Any
    new_redis: Any
    make: Callable[[], SourceMove]
    command: tuple[str, ...]

    def clear(self) -> None:
        for client in (self.old_redis, self.new_redis):
            client.flushall()
            client.script_flush()

    @property
    def left(self) -> list[bytes]:
        """The keys of the old source."""
        return self.old_redis.keys(f"{{segment:{self.old}}}*")

    def assert_accounted(self) -> None:
        assert_accounted(self.old_redis, self.old)
        assert_accounted(self.new_redis, self.new)


@contextmanager
def renaming(make_app, redis):
    before, app = make_app(**BEFORE), make_app(**AFTER)
    make = partial(rename, app, "old", "new")
    yield Moving(before, app, "old", "new", redis, redis, make, ("rename", "old", "new"))


@contextmanager
def emptying(make_app, redis):
    with EmbeddedRedis() as own, own.client() as client:
        before, app = make_app(broker_url=own.url, **AFTER), make_app(**AFTER)
        command = ("move", "new", "--from", own.url, "--yes")

        def make():
            return empty(app, own.url, names=["new"]).moves["new"]

        yield Moving(before, app, "new", "new", client, redis, make, command)


@pytest.fixture(params=[renaming, emptying], ids=["renamed", "another server"])
def moving(request, make_app, redis):
    with request.param(make_app, redis) as moving:
        yield moving


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


def kill_after(make, commands: int) -> None:
    """Move, and be killed as soon as so many commands were carried out outside of a cluster."""
    sources, left = make(), [commands]
    moves = [move for source in sources for move in source.moves]
    servers = (server for move in moves for server in (move._old._server, move._new._server))
    for pool in {id(server): server for server in servers if isinstance(server, Pool)}.values():
        pool._exchange = partial(_exchange, pool._exchange, left)
    run_moves(sources, 0)


def moved_and_killed(make, commands: int) -> bool:
    """Move in another process, which is killed; return whether it was not yet done."""
    _, status = os.waitpid(fork(partial(kill_after, make, commands)), 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def _exchange(exchange, left, *args, **kwargs):
    reply = exchange(*args, **kwargs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return reply


def fill_everything(before, source) -> None:
    """Store messages in each of the states that can be moved."""
    old = buffer_of(before, source)
    fill(before, 0, 3, source)
    (batch,) = old.claim(1)
    old.bury(old.begin(batch.id, "t"), "400", status="400", answered=True)
    fill(before, 3, 2, source)
    (batch,) = old.claim(1)
    held = old.begin(batch.id, "t")
    old.retry(held, "failure", 600.0, "503", "503", breaker=(5, 1.0, 60.0))
    attachments = {0: Attachments(b"[]", b"00-a-b-01")}
    old.append_many([message(n) for n in range(5, 9)], attachments)
    old.admin.mark()
    fill(before, 9, 3, source)


def test_killed_after_each_command_and_repeated(moving):
    commands = 0
    while True:
        commands += 1
        moving.clear()
        fill_everything(moving.before, moving.old)
        was_killed = moved_and_killed(lambda: [moving.make()], commands)
        moving.assert_accounted()
        moving.make().run(0)
        assert moving.left == [], commands
        moving.assert_accounted()
        found = stats(moving.app, moving.new)
        assert (found.accepted, found.dead.messages, found.ready.messages) == (MESSAGES, 3, 9)
        assert (found.buried, found.retries) == (3, 1), commands
        if not was_killed:
            break
    assert commands > 20


def test_killed_again_and_again_in_a_rolling_deploy(
    moving, redis_server, server, workers, tmp_path
):
    chance = random.Random(13)
    fill(moving.before, 0, 3_000, moving.old)
    numbers = iter(range(3_000, 10**6))
    ends = threading.Event()

    def call(app, source):
        while not ends.is_set():
            buffer_of(app, source).append(message(next(numbers)))
            time.sleep(0.001)

    def moved():
        state = f"{{segment:{moving.new}}}:state"
        return int(moving.new_redis.hget(state, "received") or 0)

    places = [(moving.before, moving.old), (moving.app, moving.new)]
    if moving.old != moving.new:  # the processes before the deploy have the new name as well
        places[1] = (moving.before, moving.new)
    callers = [threading.Thread(target=call, args=place) for place in places]
    workers.start(moving.before, processes=2)
    workers.start(moving.app, processes=2)
    for each in callers:
        each.start()
    try:
        longest = 0.06
        for kills in range(400):
            if kills >= 40 and moved() > 10:
                break
            before = moved()
            child = fork(lambda: moving.make().run(5))
            time.sleep(chance.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if moved() == before:  # a busy machine takes longer to begin
                longest = min(1.1 * longest, 2.0)
    finally:
        ends.set()
        for each in callers:
            each.join()
    stored = next(numbers)
    args = ["-A", "workerapp", "segment", *moving.command]
    done = process(args, environ(broker_url=redis_server.url, **AFTER), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing remains\n")
    assert wait_until(lambda: len(server.received) >= stored, 30)
    wait_until(lambda: stats(moving.app, moving.new).delivered.messages == stored)
    arrived = Counter(m["messageId"] for m in server.messages)
    assert arrived == dict.fromkeys((f"m{n}" for n in range(stored)), 1)
    assert moving.left == []
    assert stats(moving.app, moving.new).accepted == stored
    assert moved() > 10, "few batches were moved"
    assert_accounted(moving.new_redis, moving.new)


def test_from_a_cluster_into_one_server_and_back_each_killed_twice(make_app, redis_server, server):
    names, each = ["default", "a", "b", "c"], 2_000
    conf = {
        "segment_sources": {name: {"write_key": WRITE_KEY} for name in names},
        "segment_max_batch_messages": 20,
    }
    with Cluster() as cluster:
        clustered = make_app(segment_redis_url=cluster.url, **conf)
        single = make_app(segment_redis_url=redis_server.url, **conf)
        servers = {cluster.primary_of(f"{{segment:{name}}}").port for name in names}
        assert len(servers) > 1
        for place, name in enumerate(names):
            fill(clustered, place * each, each, name)
        for app, url in ((single, cluster.url), (clustered, redis_server.url)):
            for commands in (100, 200):
                assert moved_and_killed(partial(_moves, app, url), commands)
                assert 0 < _accepted(app, names) < each * len(names)
            ok(app, "move", "--from", url, "--yes")
            assert _accepted(app, names) == each * len(names)
        for name in names:
            ok(clustered, "deliver", "--source", name, "--timeout", "30")
    arrived = Counter(m["messageId"] for m in server.messages)
    assert arrived == dict.fromkeys((f"m{n}" for n in range(each * len(names))), 1)


def _moves(app, url):
    return list(empty(app, url).moves.values())


def _accepted(app, names):
    return sum(stats(app, name).accepted for name in names)
