"""The workers' part: ticks, drains, stints, requests under way, and the rate they keep to.

It follows worker/stint.py and the scripts claim, take, ack (_grow), due and reserve, step by
step. Events are a flow and a number, batches are single. No request fails.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from benchmarks.simulation.engine import Clock, Machine, Queue, Resource, Steps
from benchmarks.simulation.parameters import Costs
from celery_segment.buffer.bounds import CLAIM_BATCHES
from celery_segment.worker.bootsteps import PERIOD
from celery_segment.worker.stint import NEXT, STINT
from celery_segment.worker.ticker import LOOK, SHORTEST

__all__ = ["Delivery", "Load"]

#: Seconds that an answer is taken to need before the first one, as in claim.lua.
LATENCY = 0.1
#: TCP's first window, the bytes of a segment, and the idle time after which the window is small
#: again, beyond the round trip.
WINDOW, SEGMENT, IDLE = 10, 1_448, 0.2


@dataclass(frozen=True)
class Load:
    """What is delivered, by whom, and where.

    Attributes:
        hosts: The number of hosts with a worker each.
        processes: The processes of each worker.
        shards: The number of shards, each on a primary of its own.
        backlog: The events that wait in each shard at the beginning.
        rate: The events per second that each shard takes.
        redis: The round trip to Redis, in seconds.
        segment: The round trip to the endpoint, in seconds.
        answer_after: Seconds until the endpoint answers.
        batch_events: The events of a full batch.
        max_inflight: ``segment_max_inflight``.
        requests: ``segment_max_requests_per_second``.
        cores: The cores of the one machine that has everything; 0 where each worker's host has
            a core for each of its processes, Redis one, and the endpoint is somebody else's.
        others: How many of these cores others use.
    """

    hosts: int
    processes: int
    batch_events: int
    shards: int = 1
    backlog: int = 0
    rate: float = 0.0
    redis: float = 0.0
    segment: float = 0.0
    answer_after: float = 0.0
    max_inflight: int = 32
    requests: float = 1_000.0
    cores: int = 0
    others: float = 0.0


class Connection:
    """A TCP connection that carries much at a time: its window grows with each round trip."""

    def __init__(self, clock: Clock, round_trip: float) -> None:
        self._clock, self._round_trip = clock, round_trip
        self._window, self._used = WINDOW * SEGMENT, 0.0

    def seconds(self, size: float) -> float:
        """Return how long it takes until an answer to, or of, so many bytes is there."""
        if self._clock.now - self._used > IDLE + self._round_trip:
            self._window = WINDOW * SEGMENT
        trips, sent = 1, self._window
        while sent < size:
            self._window *= 2
            trips, sent = trips + 1, sent + self._window
        self._used = self._clock.now + (trips - 1) * self._round_trip
        return trips * self._round_trip


class Shard:
    """A source: its batches, and the limit of requests that are under way."""

    def __init__(self, clock: Clock, load: Load) -> None:
        self._clock, self._load = clock, load
        self.redis = Resource(clock)
        self.ready: deque[int] = deque()
        self.waiting: deque[int] = deque()
        self.sizes: dict[int, int] = {}
        self.inflight = 0
        self.limit, self._latency, self._fastest = 2.0, None, None
        self.ticked, self.answered = -1.0, True
        self._open, self._filled, self._numbers = float(load.backlog), 0.0, 0
        self.fill()
        if self._open >= 1:
            self._seal(int(self._open))

    def fill(self) -> None:
        """Take what has come since the last time; seal full batches."""
        self._open += (self._clock.now - self._filled) * self._load.rate
        self._filled = self._clock.now
        while self._open >= self._load.batch_events:
            self._seal(self._load.batch_events)

    def _seal(self, events: int) -> None:
        self._numbers += 1
        self.sizes[self._numbers] = events
        self.ready.append(self._numbers)
        self._open -= events

    @property
    def events(self) -> float:
        """The events that wait, those under way included."""
        self.fill()
        return self._open + sum(self.sizes.values())

    def is_due(self) -> bool:
        """Return whether a drain is due, as due.lua does."""
        self.fill()
        due = (self.ready or self._open >= 1) and self.inflight < int(self.limit)
        if not due or self._clock.now - self.ticked < SHORTEST * PERIOD or not self.answered:
            return False
        self.ticked, self.answered = self._clock.now, False
        return True

    def claim(self, most: int, *, continues: bool = False, begins: bool = True) -> list[int]:
        """Claim batches, as claim.lua does."""
        self.fill()
        self.answered = True
        if continues and self.waiting:
            return [self.waiting.popleft() if begins else self.waiting[0]]
        has_open = not continues and self._open >= 1
        latency = LATENCY if self._latency is None else self._latency
        needed = math.ceil((len(self.ready) + has_open) * latency / STINT)
        most = min(most, CLAIM_BATCHES, max(needed, 1), int(self.limit) - self.inflight)
        if has_open and len(self.ready) < most:
            self._seal(int(self._open))
        claimed = [self.ready.popleft() for _ in range(max(min(most, len(self.ready)), 0))]
        self.inflight += len(claimed)
        self.waiting.extend(claimed[1:] if begins else claimed)
        return claimed

    def take(self, batch: int) -> bool:
        """Take a batch that waits; return False where another process has done so."""
        if batch not in self.waiting:
            return False
        self.waiting.remove(batch)
        return True

    def release(self, batch: int) -> None:
        """Put a claimed batch back."""
        self.ready.appendleft(batch)
        self.inflight -= 1

    def ack(self, batch: int, duration: float) -> None:
        """Settle a batch, and adapt the limit, as _grow.lua does."""
        last = self._latency
        self._latency = duration if last is None else 0.8 * last + 0.2 * duration
        fastest = self._fastest
        self._fastest = min(fastest * 1.02 + 0.001 if fastest else duration, duration)
        under_way, ceiling = self.inflight - len(self.waiting), self._load.max_inflight
        if under_way >= int(self.limit) and duration <= 2 * self._fastest + 0.05:
            # The threshold is the ceiling, as no request fails.
            self.limit = min(self.limit + 1, ceiling)
        self.inflight -= 1
        del self.sizes[batch]


class Delivery:
    """Workers that deliver what comes to the shards.

    Attributes:
        clock: The clock.
        shards: The shards.
        events: The events that the endpoint has, and ``requests``, in how many requests.
        tasks: The tasks that the workers have run.
        machines: The machines of the workers.
    """

    def __init__(self, load: Load, costs: Costs) -> None:
        self.clock = clock = Clock()
        self._load, self._costs = load, costs
        self.shards = [Shard(clock, load) for _ in range(load.shards)]
        self.events = self.requests = self.tasks = 0
        self._first, self._first_events, self._last = -1.0, 0, 0.0
        self._pace_at = 0.0
        together = Machine(clock, load.cores, others=load.others) if load.cores else None
        self.machines = [together or Machine(clock, load.processes) for _ in range(load.hosts)]
        self._servers = together
        self._endpoint = Resource(clock)  # Python runs one thread at a time
        # The broker gives each task to a worker in turn, also to one that has none free: a worker
        # fetches several times as many as it has processes.
        queues = [Queue(clock) for _ in self.machines]
        self._turns = cycle(queues)
        for host, (machine, tasks) in enumerate(zip(self.machines, queues, strict=True)):
            clock.start(self._ticks(tasks), after=PERIOD * host / load.hosts)
            for n in range(load.processes):
                clock.start(_Process(self, f"{host}.{n}", machine, tasks).run())

    def run(self, seconds: float) -> None:
        """Run for so many more seconds."""
        self.clock.run(self.clock.now + seconds)

    @property
    def waiting(self) -> float:
        """The events that wait."""
        return sum(shard.events for shard in self.shards)

    @property
    def rate(self) -> float:
        """The events per second between the first request and the last."""
        return (self.events - self._first_events) / (self._last - self._first)

    def note(self, events: int) -> None:
        """Count a request that the endpoint has."""
        if not self.requests:
            self._first, self._first_events = self.clock.now, events
        self.events, self.requests, self._last = (
            self.events + events,
            self.requests + 1,
            self.clock.now,
        )

    def publish(self, task: Any) -> None:
        """Have the broker give a task to a worker."""
        next(self._turns).put(task)

    def _ticks(self, tasks: Queue) -> Steps:
        """Ask at each tick which shards are due, unless all processes are busy."""
        for number in count():
            if tasks.waiting or number % LOOK == 0:
                yield self._load.redis
                for shard in self.shards:
                    if shard.is_due():
                        tasks.put((shard, None), first=True)
            yield PERIOD

    def _reserve(self) -> float:
        """Reserve a request, as reserve.lua does, unless it is too far off; return the wait."""
        at = max(self._pace_at, self.clock.now)
        wait = at - self.clock.now
        if wait <= STINT:
            self._pace_at = at + 1 / self._load.requests
        return wait


class _Process:
    """A process of a worker's pool."""

    def __init__(self, delivery: Delivery, name: str, machine: Machine, tasks: Queue) -> None:
        self._all, self._name, self._machine, self._tasks = delivery, name, machine, tasks
        self._load, self._costs, self._clock = delivery._load, delivery._costs, delivery.clock
        self._from_redis = [Connection(self._clock, self._load.redis) for _ in delivery.shards]

    def run(self) -> Steps:
        while True:
            shard, batch = yield from self._tasks.get()
            self._all.tasks += 1
            yield from self._cpu(self._costs.worker_task)
            if batch is None:
                yield 3 * self._load.redis  # reap, expire, claim
                batches = shard.claim(self._load.max_inflight)
            else:
                yield self._load.redis
                batches = [batch] if shard.take(batch) else []
            yield from self._stint(shard, batches)

    def _stint(self, shard: Shard, batches: list[int]) -> Steps:
        """Deliver the first batch, then further ones for a stint; leave the others to others."""
        began, most = self._clock.now, NEXT
        yield from self._hand_on(shard, batches[1:])
        while batches and (yield from self._attempt(shard, batches[0])):
            continues = self._clock.now - began < STINT
            yield self._load.redis
            following, most = shard.claim(most, continues=True, begins=continues), 1
            batches = following if continues else []
            yield from self._hand_on(shard, following[1:] if continues else following)

    def _hand_on(self, shard: Shard, batches: list[int]) -> Steps:
        for batch in batches:
            yield self._load.redis  # to the broker, which is beside it
            self._all.publish((shard, batch))

    def _attempt(self, shard: Shard, batch: int) -> Steps:
        """Deliver a batch; put it back where the rate of all workers allows no request soon."""
        costs, load = self._costs, self._load
        yield load.redis
        wait = self._all._reserve()
        if wait > STINT:
            yield load.redis
            shard.release(batch)
            return False
        yield wait
        events = shard.sizes[batch]
        connection = self._from_redis[self._all.shards.index(shard)]
        yield connection.seconds(events * costs.event_bytes)
        yield from self._redis(shard, costs.redis_batch + events * costs.redis_event)
        yield from self._cpu(costs.worker_batch + events * costs.worker_event)
        began = self._clock.now
        yield costs.request_trips * load.segment
        yield from self._serve(events)
        yield load.answer_after
        duration = self._clock.now - began
        yield load.redis
        shard.ack(batch, duration)
        return True

    def _serve(self, events: int) -> Steps:
        """Have the endpoint take a request; the stub's work is on the machine of all."""
        costs, everything = self._costs, self._all
        if everything._servers is not None:
            yield from everything._endpoint.take()
            seconds = costs.endpoint_batch + events * costs.endpoint_event
            yield from everything._servers.use("endpoint", seconds)
            everything._endpoint.give_back()
            if self._load.redis:
                yield from everything._servers.use("link", costs.link_batch)
        everything.note(events)

    def _redis(self, shard: Shard, seconds: float) -> Steps:
        """Have Redis work; what it spends on appends leaves the rest of its time."""
        yield from shard.redis.take()
        if self._all._servers is not None:
            yield from self._all._servers.use("redis", seconds)
        else:
            free = 1 - self._load.rate * self._costs.redis_append
            yield seconds / max(free, 0.01)
        shard.redis.give_back()

    def _cpu(self, seconds: float) -> Steps:
        return self._machine.use(self._name, seconds)
