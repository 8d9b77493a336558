"""What the buffer's transitions take and return: batches, leases, what was settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

__all__ = [
    "NO_ATTACHMENTS",
    "Attachments",
    "AttachmentsByPlace",
    "BatchRef",
    "Busy",
    "Damaged",
    "DeadLetter",
    "DeadLettersFull",
    "Gone",
    "Lease",
    "LeasedElsewhere",
    "Settled",
    "SourceClosed",
    "Stale",
]


class Attachments(NamedTuple):
    """What is stored with a message until it is settled; each may be empty.

    Attributes:
        callbacks: What its caller wants called then, as ``Settled.callbacks`` returns it.
        trace: The trace context of the call, in W3C's ``traceparent`` form.
    """

    callbacks: bytes = b""
    trace: bytes = b""

    def __repr__(self) -> str:
        # Callbacks have arguments, which may be people's data.
        return f"Attachments({len(self.callbacks)} bytes of callbacks)"


#: Attachments of some of a list of messages, by their message's place in it, from 0 on.
AttachmentsByPlace = Mapping[int, Attachments]
NO_ATTACHMENTS: AttachmentsByPlace = {}


class BatchRef(msgspec.Struct, frozen=True):
    """A reference to a claimed batch: what the task message of its delivery carries.

    Attributes:
        id: The batch's id.
        count: The number of its messages.
        size: Their size as JSON, in bytes.
    """

    id: str
    count: int
    size: int


@dataclass(frozen=True)
class Lease:
    """A batch that this process holds for one attempt.

    Attributes:
        id: The batch's id.
        token: Proves to the buffer that this holder is the present one.
        body: The messages as they are stored, compressed or not (see ``body``).
        count: The number of messages.
        size: Their size as JSON, in bytes.
        attempts: Counted failures before this attempt.
        requests: All requests before this attempt.
        age: Seconds since the first request.
        traces: How many of the messages have a trace context.
        refusals: How often the endpoint refused the configuration in an answer to this batch.
        others_delivered: Whether another batch was delivered since this one failed first.
        alone: Whether the source has no other batch that could be tried.
        delivered_ago: Seconds since a batch of the source was delivered; None before the first.
    """

    id: str
    token: str
    body: bytes = field(repr=False)
    count: int
    size: int
    attempts: int
    requests: int
    age: float
    traces: int
    refusals: int = 0
    others_delivered: bool = False
    alone: bool = False
    delivered_ago: float | None = None


class Gone(msgspec.Struct, frozen=True):
    """No batch of that id is in flight: it is settled, or among the ready batches again."""


class LeasedElsewhere(msgspec.Struct, frozen=True):
    """Another process holds the batch, and its lease has not expired."""


class SourceClosed(msgspec.Struct, frozen=True):
    """The source is closed, for so many seconds (None: until resumed); the batch was put back."""

    seconds: float | None


class Busy(msgspec.Struct, frozen=True):
    """As many requests as ``limit`` are under way already; the batch was put back."""

    limit: int


class Stale(Exception):  # noqa: N818 - a refusal, not a fault
    """This process no longer holds the batch: another took it over. Nothing was changed."""


class Damaged(Exception):  # noqa: N818 - a state
    """What Redis holds of a batch is damaged. Nothing was changed."""


class DeadLettersFull(Exception):  # noqa: N818 - a refusal, not a fault
    """The dead letters would exceed ``segment_max_dead_bytes``. Nothing was changed."""


@dataclass(frozen=True)
class Settled:
    """A batch that was delivered, or given up, and the callbacks to run for it.

    Attributes:
        name: Its name among the settled batches.
        id: The batch's id.
        token: Proves to the buffer that it is this process which runs the callbacks.
        cause: Why it was given up; None when it was delivered.
        callbacks: The callbacks of its messages, as ``Attachments`` had them.
        body: The messages as they were stored; empty where no hook wants them.
        count: The number of messages.
        size: Their size as JSON, in bytes.
        reported: Whether ``segment_on_delivered`` or ``segment_on_failed`` has run.
    """

    name: str
    id: str
    token: str
    cause: str | None
    callbacks: tuple[bytes, ...] = field(repr=False)
    body: bytes = field(repr=False)
    count: int
    size: int
    reported: bool = False

    @classmethod
    def of(
        cls,
        lease: Lease,
        how: str,
        cause: str | None,
        callbacks: Iterable[bytes],
        *,
        keep_body: bool,
    ) -> Settled:
        """Return what becomes of a leased batch; ``how`` is "delivered" or "dead"."""
        body = lease.body if keep_body else b""
        name, about = f"{how}:{lease.id}", (lease.count, lease.size)
        return cls(name, lease.id, lease.token, cause, tuple(callbacks), body, *about)


@dataclass(frozen=True)
class DeadLetter:
    """A batch that was given up.

    Attributes:
        id: The batch's id.
        messages: The number of its messages.
        bytes: Their size as JSON.
        buried: When it was given up, in seconds since the epoch by Redis' clock.
        reason: Why it was given up.
        kinds: What its messages are: "track 'Order Completed' and 2 more". Empty where it is in no
            group, since it was given up before there were groups.
    """

    id: str
    messages: int
    bytes: int
    buried: float
    reason: str
    kinds: str = ""
