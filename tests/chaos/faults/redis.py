"""Faults of the Redis server, and what is in it."""

from __future__ import annotations

from chaos.faults.base import Effect, fault, givers, on_redis
from chaos.settings import HELD, WORKERS

#: How every key of the buffer begins; the rest of Redis is the broker's.
BUFFER = b"{segment:"
#: What becomes of a primary after a failover, see ``Servers.fail_over``.
MANNERS = ("demoted", "isolated", "left")


@fault
@on_redis
def kill_redis(stage, chance):
    stage.redis.kill()
    stage.redis_is_away = True

    def undo():
        stage.redis.start()
        stage.redis_is_away = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(
        chance.uniform(0.1, 2), undo, doubtful, tasks=WORKERS * HELD, spilled=givers(stage)
    )


@fault
@on_redis
def freeze_redis(stage, chance):
    stage.redis.pause()
    stage.redis_is_away = True

    def undo():
        stage.redis.resume()
        stage.redis_is_away = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(chance.uniform(0.3, 3), undo, doubtful, spilled=givers(stage))


@fault
@on_redis
def fail_over_behind_the_same_address(stage, chance):
    """Calls and deliveries go on: nothing is lost, none fails once the address has moved."""
    if stage.servers.demoted is not None or not stage.servers.fail_over(chance.choice(MANNERS)):
        return None
    return Effect(
        chance.uniform(2, 4),
        stage.servers.stop_demoted,
        tasks=WORKERS * HELD,
        spilled=givers(stage),
        calls_from=stage.servers.moved_at,
    )


@fault
@on_redis
def flush_scripts(stage, _):
    stage.client.script_flush()
    return Effect()


@fault
@on_redis
def delete_broker_keys(stage, _):
    keys = [key for key in stage.client.scan_iter() if not key.startswith(BUFFER)]
    queued = stage.client.llen("celery")
    if keys:
        stage.client.delete(*keys)
    return Effect(tasks=queued + WORKERS * HELD)


@fault
@on_redis
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
@on_redis
def pause_the_source(stage, chance):
    """An operator's pause: long enough for a backlog that the workers pack."""
    stage.buffer.admin.pause()
    return Effect(chance.uniform(5, 8), stage.buffer.admin.resume)
