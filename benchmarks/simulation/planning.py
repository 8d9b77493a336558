"""Simulate loads that no machine at hand has, and say what they need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from benchmarks.simulation.delivery import Delivery, Load
from benchmarks.simulation.parameters import Costs

__all__ = ["ASSUMED", "PLANS", "REQUESTS", "Needs", "needs"]

#: Segment's limit of requests a second for a workspace.
REQUESTS = 1_000
#: Events per second, and segment_max_requests_per_second.
PLANS = ((100_000, 1_000), (1_000_000, 1_000))
HOUR = 3_600


@dataclass(frozen=True)
class Assumed:
    """What was not measured.

    Attributes:
        redis: The round trip from the workers to Redis, in seconds.
        segment: The round trip to Segment, in seconds.
        answer_after: Seconds until Segment answers a request that it has.
        busy: The share of its time that a Redis may be busy.
        processes: The processes of each worker's host.
    """

    redis: float = 0.0005
    segment: float = 0.02
    answer_after: float = 0.1
    busy: float = 0.6
    processes: int = 4


ASSUMED = Assumed()
#: Simulated seconds until the workers have found their pace, and those that count.
WARM_UP, SECONDS = 10.0, 5.0
#: The hosts from which on more do not help.
HOSTS = 64
#: The share of the events that have to be delivered in that time.
KEPT = 0.98


@dataclass(frozen=True)
class Needs:
    """What a load needs.

    Attributes:
        rate: Events per second.
        limit: segment_max_requests_per_second.
        delivered: Events per second that are delivered.
        shards: Shards, each on a primary of its own.
        busy: The share of its time that each Redis is busy.
        requests: Requests per second.
        processes: Processes that deliver.
        cores: Cores that they use.
        into_redis, out_of_redis, to_segment: Bytes per second.
        memory, memory_varied: Bytes of all Redis servers for each hour of an outage of Segment,
            of equal events and of varied ones.
        compressing: Cores that compress this backlog.
        catching_up: Hours to deliver the backlog of an hour, at Segment's limit.
    """

    rate: int
    limit: int
    delivered: float
    shards: int
    busy: float
    requests: float
    processes: int
    cores: float
    into_redis: float
    out_of_redis: float
    to_segment: float
    memory: float
    memory_varied: float
    compressing: float
    catching_up: float


def needs(rate: int, limit: int, costs: Costs, assumed: Assumed = ASSUMED) -> Needs:
    """Return what so many events a second need."""
    of_delivery = costs.redis_batch / costs.batch_events + costs.redis_event
    in_redis = costs.redis_append + of_delivery
    shards = math.ceil(rate * in_redis / assumed.busy)
    load = Load(
        hosts=1,
        processes=assumed.processes,
        batch_events=costs.batch_events,
        shards=shards,
        rate=rate / shards,
        redis=assumed.redis,
        segment=assumed.segment,
        answer_after=assumed.answer_after,
        requests=limit,
    )
    load = replace(load, hosts=_fewest_hosts(load, costs))
    requests, delivered, cores = _steady(load, costs)
    batches = rate / costs.batch_events
    kept = rate * HOUR * costs.event_bytes
    return Needs(
        rate=rate,
        limit=limit,
        delivered=delivered,
        shards=shards,
        busy=rate / shards * in_redis,
        requests=requests,
        processes=load.hosts * load.processes,
        cores=cores,
        into_redis=float(rate * costs.command_bytes),
        out_of_redis=float(rate * costs.event_bytes),
        to_segment=rate * costs.event_bytes * costs.compressed_varied,
        memory=kept * costs.compressed,
        memory_varied=kept * costs.compressed_varied,
        compressing=batches * costs.compress_batch,
        catching_up=batches / (REQUESTS - batches),
    )


def _fewest_hosts(load: Load, costs: Costs) -> int:
    """Return the fewest hosts that keep up, by halving; the most there are if none do."""
    few, enough = 0, 1
    while enough < HOSTS and not _keeps_up(replace(load, hosts=enough), costs):
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        if _keeps_up(replace(load, hosts=middle), costs):
            enough = middle
        else:
            few = middle
    return enough


def _keeps_up(load: Load, costs: Costs) -> bool:
    return _steady(load, costs)[1] >= KEPT * load.rate * load.shards


def _steady(load: Load, costs: Costs) -> tuple[float, float, float]:
    """Return requests and events per second, and the cores that the workers use."""
    delivery = Delivery(load, costs)
    delivery.run(WARM_UP)
    requests, events, busy = delivery.requests, delivery.events, _busy(delivery)
    delivery.run(SECONDS)
    found = (delivery.requests - requests, delivery.events - events, _busy(delivery) - busy)
    return found[0] / SECONDS, found[1] / SECONDS, found[2] / SECONDS


def _busy(delivery: Delivery) -> float:
    return sum(sum(machine.busy.values()) for machine in delivery.machines)
