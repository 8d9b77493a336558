"""What the simulation is told: the costs that were measured, and the points to reproduce."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["STORED", "Appending", "Costs", "Deliveries", "Measured", "Point", "load", "store"]

#: The table of the last measurement that was stored.
STORED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True)
class Costs:
    """CPU seconds, if nothing else is said.

    Attributes:
        redis_append: An append in Redis, one of many that arrive together.
        redis_wake: What Redis spends whenever it wakes up for one or more commands.
        tool_request: A request of redis-benchmark, one of many.
        tool_wake: What redis-benchmark spends whenever it wakes up.
        call: A call in a process with one thread.
        call_of_thread: A call in one of a process's threads, which take turns.
        doze: Seconds until a core that slept goes on.
        caller_crowd: What a call takes in addition for each doubling of the processes that call on
            a machine: the more there are, the less of each is in its caches.
        redis_crowd: The same for an append in Redis.
        worker_batch: The delivery of a batch by a worker, whatever its size.
        worker_event: What each event adds to it.
        worker_task: A task of a worker, from the tick or the broker to its end.
        redis_batch: What Redis spends on the delivery of a batch.
        redis_event: What each event adds to it.
        endpoint_batch: What the stub endpoint spends on a request.
        endpoint_event: What each event adds to it.
        request_trips: Round trips that a request takes: more than one where it does not fit into
            TCP's first window.
        link_batch: What it costs, at both ends and between them, that a batch comes in packets
            over a link of this machine.
        compress_batch: The compression of a full batch of a backlog.
        batch_events: Events of a full batch.
        event_bytes: Bytes of an event as JSON.
        command_bytes: Bytes of the command that appends it.
        compressed: The part of its size that a batch of equal events has when compressed.
        compressed_varied: The same, where ids, names and numbers differ.
    """

    redis_append: float
    redis_wake: float
    tool_request: float
    tool_wake: float
    call: float
    call_of_thread: float
    doze: float
    caller_crowd: float
    redis_crowd: float
    worker_batch: float
    worker_event: float
    worker_task: float
    redis_batch: float
    redis_event: float
    endpoint_batch: float
    endpoint_event: float
    request_trips: float
    link_batch: float
    compress_batch: float
    batch_events: int
    event_bytes: int
    command_bytes: int
    compressed: float
    compressed_varied: float


@dataclass(frozen=True)
class Appending:
    """Who appends: so many processes with so many threads each, or redis-benchmark."""

    processes: int
    threads: int
    tool: bool = False

    @property
    def text(self) -> str:
        """A description of it."""
        if self.tool:
            return f"redis-benchmark, {self.threads} connections"
        return f"calls, processes by threads: {self.processes} by {self.threads}"


@dataclass(frozen=True)
class Deliveries:
    """A backlog that workers deliver.

    Attributes:
        processes: The processes of each worker.
        hosts: The number of hosts with a worker each; 0 for one worker beside the servers.
        events: The events of the backlog.
        answer_after: Seconds until the endpoint answers.
        redis: The round trip from a host to Redis, in seconds.
        segment: The round trip from a host to the endpoint, in seconds.
        batch_events: Events of a batch at most; 0 for the default.
    """

    processes: int
    hosts: int
    events: int
    answer_after: float
    redis: float = 0.0
    segment: float = 0.0
    batch_events: int = 0

    @property
    def text(self) -> str:
        """A description of it."""
        processes = max(self.hosts, 1) * self.processes
        place = f" on {self.hosts} hosts" if self.hosts > 1 else " on another host"
        parts = [f"{processes} worker processes{place if self.hosts else ''}"]
        parts[0] = parts[0].replace("1 worker processes", "1 worker process")
        if self.hosts:
            parts.append(f"{self.redis * 1000:.0f} ms to Redis")
            parts.append(f"{self.segment * 1000:.0f} ms to the endpoint")
        if self.batch_events:
            parts.append(f"batches of {self.batch_events}")
        parts.append(f"answers after {self.answer_after * 1000:.0f} ms")
        return ", ".join(parts)


@dataclass(frozen=True)
class Point:
    """A rate that was measured, in events per second.

    Attributes:
        what: What was measured.
        rate: The median.
        others: How many cores others used meanwhile, likewise.
        calibrates: Whether a cost was found by this point, so that it proves little.
    """

    what: Appending | Deliveries
    rate: float
    others: float
    calibrates: bool = False


@dataclass(frozen=True)
class Measured:
    """A measurement: the machine and its cores, the costs, the points."""

    machine: str
    cores: int
    costs: Costs
    points: list[Point] = field(default_factory=list)


def load(path: Path = STORED) -> Measured:
    """Return a stored measurement."""
    found = json.loads(path.read_text())
    costs, points = Costs(**found["costs"]), list(map(_point, found["points"]))
    return Measured(found["machine"], found["cores"], costs, points)


def store(measured: Measured, path: Path = STORED) -> None:
    """Store a measurement."""
    path.write_text(json.dumps(asdict(measured), indent=1) + "\n")


def _point(found: dict[str, Any]) -> Point:
    kind = Deliveries if "answer_after" in found["what"] else Appending
    return Point(**{**found, "what": kind(**found["what"])})
