"""Faults of RabbitMQ. No task may be lost by them, nor any call fail."""

from __future__ import annotations

import time

from chaos.faults.base import Effect, fault, on_redis
from chaos.faults.broker import publish_again


@fault
def restart_rabbitmq(stage, chance):
    if stage.broker.is_away:
        return None
    began = time.monotonic()
    stage.broker.stop()
    return Effect(chance.uniform(0, 1), stage.broker.start, cuts_broker=True, calls_from=began)


@fault
def cut_connections_to_rabbitmq(stage, _):
    began = time.monotonic()
    stage.broker.cut()
    return Effect(cuts_broker=True, calls_from=began)


@fault
@on_redis
def double_deliveries(stage, _):
    if stage.broker.is_away:
        return None
    publish_again(stage)
    return Effect()


FAULTS = (restart_rabbitmq, cut_connections_to_rabbitmq, double_deliveries)
