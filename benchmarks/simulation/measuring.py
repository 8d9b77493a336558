"""Measure the points and the costs from which the simulation reproduces them."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.connections import TOOL_ABSENT, Connections
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.network import why_not
from benchmarks.report import processor
from benchmarks.simulation.appends import append_rate
from benchmarks.simulation.comparing import delivered
from benchmarks.simulation.delivery import Delivery
from benchmarks.simulation.parameters import Appending, Costs, Deliveries, Measured, Point
from benchmarks.throughput import Site, Workers
from celery_segment import messages
from celery_segment.buffer.body import compressed
from celery_segment.calls import api

__all__ = ["APPENDS", "DELIVERIES", "HOSTS", "measure"]

#: One and many connections of redis-benchmark, a lone caller and one with threads show the costs,
#: and eight processes what they cost each other.
TOOL_ONE, TOOL_MANY = Appending(1, 1, tool=True), Appending(1, 50, tool=True)
ONE_CALLER, THREADS, MANY_CALLERS = Appending(1, 1), Appending(1, 8), Appending(8, 1)
APPENDS = (
    *(TOOL_ONE, Appending(1, 4, tool=True), TOOL_MANY),
    *(ONE_CALLER, Appending(2, 1), Appending(4, 1), MANY_CALLERS),
    *(THREADS, Appending(2, 8), Appending(4, 4)),
)
#: The first two show what a batch costs and what an event of it, the third what a task costs.
LARGE = Deliveries(1, 0, 300_000, 0.0)
SMALL = Deliveries(1, 0, 30_000, 0.0, batch_events=100)
TASKS = Deliveries(1, 0, 50_000, 0.1)
DELIVERIES = (
    *(LARGE, SMALL, TASKS),
    *(Deliveries(2, 0, 300_000, 0.0), Deliveries(4, 0, 300_000, 0.0)),
    *(Deliveries(2, 0, 100_000, 0.1), Deliveries(4, 0, 200_000, 0.1)),
    *(Deliveries(8, 0, 300_000, 0.1),),
)
#: This one shows how many round trips a request takes.
FAR = Deliveries(1, 1, 50_000, 0.05, 0.001, 0.1)
HOSTS = (
    Deliveries(1, 1, 50_000, 0.05, 0.001, 0.02),
    FAR,
    Deliveries(1, 1, 50_000, 0.05, 0.02, 0.02),
    Deliveries(2, 2, 150_000, 0.05, 0.005, 0.05),
    Deliveries(2, 4, 300_000, 0.05, 0.005, 0.05),
)
SECONDS = 0.4
CORES = os.cpu_count() or 1
#: A batch as it is filled by default, in bytes.
FILL = 458_736

Found = dict[Any, list[dict[str, float]]]


def measure(rounds: int) -> Measured:
    """Measure the costs and all points.

    Raises:
        RuntimeError: What shows some of the costs cannot be measured here.
    """
    if shutil.which("redis-benchmark") is None and shutil.which("valkey-benchmark") is None:
        raise RuntimeError(TOOL_ABSENT)
    found = measure_appends(APPENDS, 4 * rounds + 1)
    found |= measure_deliveries((*DELIVERIES, *(() if why_not() else HOSTS)), rounds)
    found = {what: fast_half(each) for what, each in found.items()}
    costs = _costs(found)
    calibrate = {TOOL_ONE, TOOL_MANY, ONE_CALLER, THREADS, MANY_CALLERS, LARGE, SMALL, TASKS, FAR}
    points = [
        Point(what, _median(each, "rate"), _median(each, "others"), what in calibrate)
        for what, each in found.items()
    ]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return Measured(f"{today}; {CORES} cores, {processor()}", CORES, costs, points)


def measure_appends(whose: Iterable[Appending], rounds: int) -> Found:
    """Measure each in turn, so many times; without redis-benchmark, what needs none."""
    with Connections() as connections:
        if connections.tool is None:
            whose = [who for who in whose if not who.tool]
        found: Found = {who: [] for who in whose}
        for _ in range(rounds):
            for who, values in found.items():
                if who.tool:
                    values.append(connections.by_tool(who.threads, SECONDS))
                else:
                    values.append(connections.calls(who.processes, who.threads, SECONDS))
    return found


def measure_deliveries(which: Iterable[Deliveries], rounds: int) -> Found:
    """Measure the delivery of each backlog, so many times."""
    found: Found = {}
    with Site() as site:
        for each in which:
            batch = each.batch_events
            settings = {"segment_max_batch_messages": batch} if batch else {}
            workers = Workers(each.processes, each.hosts, each.redis, each.segment, settings)
            with site.delivering(workers) as delivering:
                found[each] = [
                    delivering.backlog(each.events, each.answer_after) for _ in range(rounds)
                ]
    return found


def fast_half(rounds: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the faster rounds: others, and a virtual machine's host, slow a round."""
    return sorted(rounds, key=lambda each: -each["rate"])[: (len(rounds) + 1) // 2]


def _median(values: Iterable[dict[str, float]], name: str) -> float:
    return median(each[name] for each in values)


def _costs(found: Found) -> Costs:
    """Return the costs, of which the last are found by simulating a point with several values."""
    many, one, call = found[TOOL_MANY], found[TOOL_ONE], found[ONE_CALLER]
    redis_append, tool_request = _median(many, "redis"), _median(many, "caller")
    redis_wake = max(_median(one, "redis") - redis_append, 0.0)
    tool_wake = max(_median(one, "caller") - tool_request, 0.0)
    crowd, doublings = found[MANY_CALLERS], math.log2(MANY_CALLERS.processes)
    per = {name: _per_batch(found, name) for name in ("worker", "redis", "endpoint")}
    event = len(_event(varied=False))
    batch_events = FILL // event
    links = [
        (each["link"] + each["worker"]) / each["requests"]
        for what in HOSTS
        for each in found.get(what, ())
    ]
    beside = median(each["worker"] / each["requests"] for each in found[TASKS])
    costs = Costs(
        redis_append=redis_append,
        redis_wake=redis_wake,
        tool_request=tool_request,
        tool_wake=tool_wake,
        call=_median(call, "caller"),
        call_of_thread=_median(found[THREADS], "caller"),
        doze=0.0,
        caller_crowd=max(_median(crowd, "caller") - _median(call, "caller"), 0.0) / doublings,
        redis_crowd=max(_median(crowd, "redis") - redis_append - redis_wake, 0.0) / doublings,
        worker_batch=per["worker"][0],
        worker_event=per["worker"][1],
        worker_task=0.0,
        redis_batch=per["redis"][0],
        redis_event=per["redis"][1],
        endpoint_batch=per["endpoint"][0],
        endpoint_event=per["endpoint"][1],
        request_trips=1.0,
        link_batch=max(median(links) - beside, 0.0) if links else 0.0,
        compress_batch=_compress_seconds(batch_events),
        batch_events=batch_events,
        event_bytes=event,
        command_bytes=event + len(b"*5\r\n$7\r\nEVALSHA\r\n$40\r\n\r\n$1\r\n1\r\n$17\r\n\r\n") + 66,
        compressed=_compressed_share(batch_events, varied=False),
        compressed_varied=_compressed_share(batch_events, varied=True),
    )
    costs = _calibrated(costs, "doze", 100e-6, _by_rate(found, ONE_CALLER))
    tasks = _delivered(found, TASKS, costs).tasks
    batches = _median(found[TASKS], "requests")
    of_batches = batches * costs.worker_batch + TASKS.events * costs.worker_event
    costs = replace(costs, worker_task=(_median(found[TASKS], "worker") - of_batches) / tasks)
    if FAR not in found:
        return costs
    rate = _median(found[FAR], "rate")
    return _calibrated(
        costs, "request_trips", 4.0, lambda costs: _delivered(found, FAR, costs).rate - rate
    )


def _delivered(found: Found, what: Deliveries, costs: Costs) -> Delivery:
    return delivered(what, costs, CORES, _median(found[what], "others"))


def _per_batch(found: Found, name: str) -> tuple[float, float]:
    """Return CPU seconds per batch and per event, by large batches and small ones."""
    (a, n), (b, m) = (
        (
            median(each[name] / each["requests"] for each in found[what]),
            what.events / _median(found[what], "requests"),
        )
        for what in (LARGE, SMALL)
    )
    event = max((a - b) / (n - m), 0.0)
    return a - n * event, event


def _by_rate(found: Found, who: Appending) -> Callable[[Costs], float]:
    """Return a function that tells how much faster the simulation is than what was measured."""
    rate, others = _median(found[who], "rate"), _median(found[who], "others")
    return lambda costs: append_rate(who, costs, CORES, others) - rate


def _calibrated(costs: Costs, name: str, most: float, too_fast: Callable[[Costs], float]) -> Costs:
    """Return the costs with the least value of one with which the simulation is not too fast."""
    low, high = 0.0, most
    for _ in range(10):
        middle = (low + high) / 2
        if too_fast(replace(costs, **{name: middle})) > 0:
            low = middle
        else:
            high = middle
    return replace(costs, **{name: high})


def _event(*, varied: bool) -> bytes:
    user, name, properties = USER, EVENT, PROPERTIES
    if varied:
        user, name = str(uuid.uuid4()), random.choice(_NAMES)  # noqa: S311
        properties = {
            **PROPERTIES,
            "revenue": random.randrange(10**5) / 100,  # noqa: S311
            "orderId": uuid.uuid4().hex,
        }
    _, message = api.track.build(user, name, properties)
    return messages.encode(message) + b","


_NAMES = [
    f"{thing} {done}" for thing in ("Item", "Cart", "Order") for done in ("Viewed", "Purchased")
]


def _compressed_share(number: int, *, varied: bool) -> float:
    content = b"".join(_event(varied=varied) for _ in range(number))
    return len(compressed(content)) / len(content)


def _compress_seconds(number: int) -> float:
    content, taken = b"".join(_event(varied=True) for _ in range(number)), []
    for _ in range(20):
        began = time.process_time()
        compressed(content)
        taken.append(time.process_time() - began)
    return median(taken)
