"""What the buffer tells: batches, their holders, what became of them, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Attachments",
    "AttachmentsByPlace",
    "BatchRef",
    "Closed",
    "DeadLetter",
    "DeadLettersFull",
    "Gone",
    "Lease",
    "LeasedElsewhere",
    "Settled",
    "Snapshot",
    "Stale",
]


class Attachments(NamedTuple):
    """What lies beside a message until it is settled; each may be empty.

    ``callbacks`` is what its caller wants called then, which ``Settled`` gives back;
    ``trace`` the trace context of the call.
    """

    callbacks: bytes = b""
    trace: bytes = b""


#: Attachments of some of a list of messages, by their message's place in it, from 0 on.
AttachmentsByPlace = Mapping[int, Attachments]


class BatchRef(NamedTuple):
    """A claimed batch, by reference: what a delivery's task message carries."""

    id: str
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A batch that this process holds for one attempt.

    ``attempts`` are the counted failures and ``requests`` all requests before
    this one; ``age`` is seconds since the first; ``traces`` is how many of its messages'
    calls left a trace context.
    """

    id: str
    token: str
    body: bytes
    messages: int
    bytes: int
    attempts: int
    requests: int
    age: float
    traces: int


@dataclass(frozen=True, slots=True)
class Gone:
    """No batch of that id is in flight: it is settled, or waits among the ready."""


@dataclass(frozen=True, slots=True)
class LeasedElsewhere:
    """Another holds the batch, and its lease lasts."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The source is closed for so many seconds (None: until resumed); the batch was put back."""

    seconds: float | None


class Stale(Exception):  # noqa: N818 - a refusal, not a fault
    """This process no longer holds the batch: another took it over. Nothing was changed."""


class DeadLettersFull(Exception):  # noqa: N818 - a refusal, not a fault
    """The dead letters would pass ``segment_max_dead_bytes``. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch that was delivered, or given up, and what has to be called for it.

    Attributes:
        name: Its name among the settled ones.
        id: The batch's id.
        cause: Why it was given up; None when it was delivered.
        callbacks: Those of its messages that have some, as ``append`` got them.
        body: Its messages, each with a comma behind it; empty where nobody is told of
            each batch.
        messages: How many it held.
        bytes: Their size.
    """

    name: str
    id: str
    cause: str | None
    callbacks: tuple[bytes, ...]
    body: bytes
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that was given up. ``buried`` is seconds since the epoch, by Redis' clock."""

    id: str
    messages: int
    bytes: int
    buried: float
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A source's figures at one moment; messages, unless the name says batches or bytes.

    ``accepted = buffered + ready + inflight + delivered + dead + purged``, always;
    what ``dropped_…`` counts was never accepted.
    ``saved_bytes`` is by how much less memory ``ready`` and ``inflight`` take, where they
    lie packed. ``buried`` counts what became a dead letter, replayed or purged since or not.
    ``attempts`` are requests by what came of them: the status of the answer, else
    "timeout", "tls" or "network"; those whose worker was killed, or lost its lease,
    before it could settle are not among them. ``uncalled_batches`` are settled, and
    their callbacks have still to be called. ``oldest`` is the age in seconds of the
    oldest waiting message; ``last_delivered`` the time of the last delivery, in seconds
    since the epoch by Redis' clock, None before the first. ``gate`` is
    "open", "paused", "probing" while one batch asks whether a failing endpoint
    is back, or why the source is closed; ``closed`` for how many seconds (None
    while paused, 0 when open); ``refused`` whether that is because its configuration
    is wrong, which no wait mends.
    """

    accepted: int
    buffered: int
    ready: int
    inflight: int
    delivered: int
    dead: int
    purged: int
    buffered_bytes: int
    ready_bytes: int
    inflight_bytes: int
    delivered_bytes: int
    dead_bytes: int
    saved_bytes: int
    ready_batches: int
    inflight_batches: int
    delivered_batches: int
    dead_batches: int
    uncalled_batches: int
    attempts: dict[str, int]
    buried: int
    retries: int
    splits: int
    takeovers: int
    dropped_full: int
    dropped_unavailable: int
    oldest: float
    last_delivered: float | None
    gate: str
    closed: float | None
    refused: bool

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Snapshot:
        """Read the figures as snapshot.lua gives them."""
        what, _, gate = raw.pop("gate").decode().partition(" ")
        n = {name: int(value) for name, value in raw.items()}
        closed = n["closed"]
        if closed < 0:
            gate = "paused"
        elif closed == 0:
            gate = "probing" if n["failing"] else "open"
        return cls(
            accepted=n.get("accepted", 0) + n["open"],
            buffered=n["open"],
            buffered_bytes=n["open_bytes"],
            **{name: n.get(name, 0) for name in _COUNTED},
            delivered_batches=n.get("batches", 0),
            attempts={
                name.removeprefix(_ATTEMPTS): n[name]
                for name in sorted(n)
                if name.startswith(_ATTEMPTS)
            },
            oldest=n["oldest"] / 1000,
            last_delivered=n["last_delivered"] / 1000 if "last_delivered" in n else None,
            gate=gate,
            closed=None if closed < 0 else closed / 1000,
            refused=closed > 0 and what == "refused",
        )


_ATTEMPTS = "attempts:"
_COUNTED = (
    *("ready", "inflight", "delivered", "dead", "purged"),
    *("buried", "retries", "splits", "takeovers"),
    *("ready_bytes", "inflight_bytes", "delivered_bytes", "dead_bytes", "saved_bytes"),
    *("ready_batches", "inflight_batches", "dead_batches", "uncalled_batches"),
    *("dropped_full", "dropped_unavailable"),
)
