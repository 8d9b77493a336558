"""The faults: each is done to the stage at once, and says how it is undone, and when.

A fault that finds nobody to be done to returns None.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from celery_segment.testing import Reply
from chaos.outage import Outage
from chaos.stage import HELD, LEASE, PROCESSES, TICK, WORKERS, Stage

#: How every key of the buffer begins; the rest of Redis is the broker's.
BUFFER = b"{segment:"
#: How many replies a proxy loses at the most.
REPLIES = 5


@dataclass
class Effect:
    """What there is to undo.

    Attributes:
        seconds: Until it is to be undone.
        undo: Undoes it. What fails because of another fault is tried again.
        doubtful: How many messages it may have had posted again, at the most: a batch for
            each delivery that it cut off. Those which the endpoint accepted without an
            answer are counted there, not here.
        tasks: How many of the application's tasks may have been lost, at the most: Celery's
            Redis transport loses what Redis was sending, and gives back what a worker held
            only after an hour.
        outage: What the fault does step by step, until it is to be undone.
    """

    seconds: float = 0.0
    undo: Callable[[], None] = lambda: None
    doubtful: int = 0
    tasks: int = 0
    outage: Outage | None = None

    def over(self, since: float) -> bool:
        """Return whether it is to be undone, when it began at a time."""
        if self.outage is not None:
            return self.outage.over()
        return since + self.seconds <= time.monotonic()


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: Its name in the report.
        inject: Does it.
    """

    name: str
    inject: Callable[[Stage, Random], Effect | None]

    @property
    def spares_the_application(self) -> bool:
        """Whether it is one of the endpoint's, which the application must not feel."""
        return self.name.startswith("endpoint")


FAULTS: list[Fault] = []


def fault(function):
    FAULTS.append(Fault(function.__name__.replace("_", " "), function))
    return function


# ---------------------------------------------------------------- workers


def _any_ready(stage, chance):
    ready = stage.ready()
    return chance.choice(ready) if ready else None


@fault
def kill_worker(stage, chance):
    hand = _any_ready(stage, chance)
    if hand is None:
        return None
    hand.kill()
    stage.add_worker()
    return Effect(doubtful=PROCESSES * stage.load.batch, tasks=HELD)


@fault
def kill_child(stage, chance):
    hand = _any_ready(stage, chance)
    children = hand.children() if hand else []
    if not children:
        return None
    os.kill(chance.choice(children), signal.SIGKILL)
    return Effect(doubtful=stage.load.batch)


@fault
def stop_worker_beyond_its_lease(stage, chance):
    hand = _any_ready(stage, chance)
    if hand is None:
        return None
    hand.stop()
    seconds = LEASE + TICK + chance.uniform(0.5, 2)
    return Effect(seconds, hand.resume, doubtful=PROCESSES * stage.load.batch)


@fault
def roll_worker(stage, chance):
    hand = _any_ready(stage, chance)
    if hand is None:
        return None
    hand.leave()
    stage.add_worker()
    return Effect()


# ---------------------------------------------------------------- Redis


@fault
def kill_redis(stage, chance):
    if stage.redis_is_away:
        return None
    stage.redis.kill()
    stage.redis_is_away = True

    def undo():
        stage.redis.start()
        stage.redis_is_away = False

    seconds, doubtful = chance.uniform(0.1, 2), stage.deliveries * stage.load.batch
    return Effect(seconds, undo, doubtful, tasks=WORKERS * HELD)


@fault
def freeze_redis(stage, chance):
    if stage.redis_is_away:
        return None
    stage.redis.pause()
    stage.redis_is_away = True

    def undo():
        stage.redis.resume()
        stage.redis_is_away = False

    return Effect(chance.uniform(0.3, 3), undo, stage.deliveries * stage.load.batch)


def _on_redis(function):
    """Leave a fault out while Redis is away."""

    def inject(stage, chance):
        return None if stage.redis_is_away else function(stage, chance)

    inject.__name__ = function.__name__
    return inject


@fault
@_on_redis
def kill_connections(stage, _):
    for kind in ("normal", "pubsub"):
        stage.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    return Effect(doubtful=stage.deliveries * stage.load.batch, tasks=WORKERS * HELD)


@fault
@_on_redis
def flush_scripts(stage, _):
    stage.client.script_flush()
    return Effect()


@fault
@_on_redis
def delete_broker_keys(stage, _):
    keys = [key for key in stage.client.scan_iter() if not key.startswith(BUFFER)]
    queued = stage.client.llen("celery")
    if keys:
        stage.client.delete(*keys)
    return Effect(tasks=queued + WORKERS * HELD)


@fault
@_on_redis
def double_messages(stage, _):
    queued = stage.client.lrange("celery", 0, -1)
    if queued:
        stage.client.rpush("celery", *queued)
    deliver = stage.app.tasks["segment.deliver"]
    with stage.app.producer_or_acquire() as producer:
        for batch in stage.client.zrange("{segment:default}:inflight", 0, -1):
            kwargs = {"source": "default", "batch": batch.decode(), "messages": 0, "bytes": 0}
            for _ in range(2):
                deliver.apply_async(kwargs=kwargs, producer=producer, retry=False)
    return Effect()


@fault
def cut_producers_replies(stage, chance):
    stage.producers_link.cut(chance.randint(1, REPLIES))
    return Effect()


@fault
def mute_producers_replies(stage, chance):
    stage.producers_link.mute(chance.randint(1, REPLIES))
    return Effect()


@fault
def cut_workers_replies(stage, chance):
    replies = chance.randint(1, REPLIES)
    stage.workers_link.cut(replies)
    return Effect(doubtful=replies * stage.load.batch)


@fault
def mute_workers_replies(stage, chance):
    replies = chance.randint(1, REPLIES)
    stage.workers_link.mute(replies)
    return Effect(doubtful=replies * stage.load.batch)


@fault
def cut_broker_replies(stage, chance):
    stage.broker_link.cut(chance.randint(1, REPLIES))
    return Effect(tasks=WORKERS * HELD)


@fault
@_on_redis
def pause_the_source(stage, chance):
    """An operator's pause: long enough for a backlog that the workers pack."""
    stage.buffer.admin.pause()
    return Effect(chance.uniform(5, 8), stage.buffer.admin.resume)


# ---------------------------------------------------------------- the endpoint


def episode(name, reply, shortest, longest):
    """Register a time in which the endpoint gives one reply to every batch."""

    def inject(stage, chance):
        if stage.endpoint_fails:
            return None
        stage.server.always(reply)
        stage.endpoint_fails = True

        def undo():
            stage.server.restore()
            stage.endpoint_fails = False

        return Effect(chance.uniform(shortest, longest), undo)

    FAULTS.append(Fault(f"endpoint {name}", inject))


@fault
def endpoint_closed(stage, chance):
    if stage.endpoint_fails:
        return None
    stage.server.stop()
    stage.endpoint_fails = True

    def undo():
        stage.server.start()
        stage.endpoint_fails = False

    return Effect(chance.uniform(0.5, 3), undo, stage.deliveries * stage.load.batch)


@fault
@_on_redis
def endpoint_outage_until_calls_are_refused(stage, chance):
    if stage.endpoint_fails:
        return None
    outage = Outage(stage, chance)
    doubtful = PROCESSES * stage.load.batch
    return Effect(undo=outage.end, doubtful=doubtful, tasks=HELD, outage=outage)


episode("500", Reply.status(500), 0.5, 3)
episode("503", Reply.status(503), 0.5, 3)
episode("429, Retry-After 1", Reply.status(429, retry_after=1), 0.2, 2)
episode("reset", Reply.reset(), 0.5, 3)
episode("slow", Reply.slow(1), 1, 3)
episode("hangs beyond the lease", Reply.hang(LEASE + 1), 0.5, 3)
# These accept, and the worker cannot know: the endpoint's records count their messages.
episode("accepts, then closes", Reply.accept_then_close(), 0.2, 1.5)
episode("accepts, answers too late", replace(Reply.slow(LEASE + 1), name="late"), 0.2, 1.5)
episode("401", Reply.status(401), 1, 4)
