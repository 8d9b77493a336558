"""Faults of the buffer's Redis, and what is in it."""

from __future__ import annotations

import contextlib

from celery_segment.errors import SegmentBufferError
from chaos.faults.base import Effect, fault, givers, held_by_redis, on_redis


@fault
@on_redis
def kill_redis(stage, chance):
    server = stage.redis
    server.kill()
    stage.redis_is_away = True

    def undo():
        server.start()
        stage.redis_is_away = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(
        chance.uniform(0.1, 2), undo, doubtful, tasks=held_by_redis(stage), spilled=givers(stage)
    )


@fault
@on_redis
def freeze_redis(stage, chance):
    server = stage.redis
    server.pause()
    stage.redis_is_away = True

    def undo():
        server.resume()
        stage.redis_is_away = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(chance.uniform(0.3, 3), undo, doubtful, spilled=givers(stage))


@fault
@on_redis
def kill_connections(stage, _):
    for kind in ("normal", "pubsub"):
        stage.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(doubtful=doubtful, tasks=held_by_redis(stage), spilled=givers(stage))


@fault
@on_redis
def flush_scripts(stage, _):
    stage.client.script_flush()
    return Effect()


@fault
@on_redis
def pause_the_source(stage, chance):
    """An operator's pause: long enough for a backlog that the workers pack."""
    # Where it fails, as without replicas, the source may be paused all the same.
    with contextlib.suppress(SegmentBufferError):
        stage.buffer.admin.pause()
    return Effect(chance.uniform(5, 8), stage.buffer.admin.resume)


FAULTS = (kill_redis, freeze_redis, kill_connections, flush_scripts, pause_the_source)
