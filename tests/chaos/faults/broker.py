"""Faults of a Redis that is the broker."""

from __future__ import annotations

from chaos.faults.base import Effect, fault, held, on_redis
from chaos.faults.connections import REPLIES
from chaos.settings import WORKERS

#: How every key of the buffer begins; the rest of Redis is the broker's.
BUFFER = b"{segment:"


@fault
def cut_broker_replies(stage, chance):
    stage.broker.consumers.cut(chance.randint(1, REPLIES))
    return Effect(tasks=WORKERS * held(stage))


@fault
@on_redis
def delete_broker_keys(stage, _):
    client = stage.broker.client
    keys = [key for key in client.scan_iter() if not key.startswith(BUFFER)]
    queued = client.llen("celery")
    if keys:
        client.delete(*keys)
    return Effect(tasks=queued + WORKERS * held(stage))


@fault
@on_redis
def double_messages(stage, _):
    client = stage.broker.client
    queued = client.lrange("celery", 0, -1)
    if queued:
        client.rpush("celery", *queued)
    publish_again(stage)
    return Effect()


def publish_again(stage) -> None:
    """Publish each delivery that may be under way twice more."""
    deliver = stage.app.tasks["segment.deliver"]
    with stage.app.producer_or_acquire() as producer:
        for batch in stage.client.zrange("{segment:default}:inflight", 0, -1):
            kwargs = {"source": "default", "batch": batch.decode(), "messages": 0, "bytes": 0}
            for _ in range(2):
                deliver.apply_async(kwargs=kwargs, producer=producer, retry=False)


FAULTS = (cut_broker_replies, delete_broker_keys, double_messages)
