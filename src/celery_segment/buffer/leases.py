"""Leases as begin.lua grants them, and what their settling returns.

Where the batch's record was lost, it is written anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from celery_segment.buffer.body import measured
from celery_segment.buffer.scripts import script
from celery_segment.buffer.topology.types import Server
from celery_segment.buffer.types import Lease, Settled, Stale

__all__ = ["lease_of", "repaired", "settled_of", "unless_stale"]


def lease_of(batch_id: str, token: str, content: Any, found: list[int]) -> Lease:
    """Return what begin.lua leased."""
    count, size, attempts, requests, age, traces, refusals, others, alone, delivered = found
    return Lease(
        batch_id,
        token,
        content,
        count,
        size,
        attempts,
        requests,
        age=age / 1000,
        traces=traces,
        refusals=refusals,
        others_delivered=bool(others),
        alone=bool(alone),
        delivered_ago=None if delivered < 0 else delivered / 1000,
    )


def repaired(server: Server, key: str, lease: Lease) -> Lease:
    """Write the lost record of a leased batch anew from its content, where that is whole.

    Args:
        server: The server that has the source's keys.
        key: What every key of the source starts with.
        lease: The batch, of which Redis does not know how many messages it has.

    Returns:
        The lease with its counts; unchanged where the content is damaged, too.
    """
    found = measured(lease.body)
    if found is None:
        return lease  # whose holder finds it damaged
    count, size = found
    server.run(script("repair"), key, lease.id, lease.token, count, size, once=True)
    return replace(lease, count=count, size=size)


def settled_of(
    lease: Lease, how: str, cause: str | None, hooked: bool, reply: list[Any]
) -> Settled | None:
    """Return the settled batch of a transition's reply, if there are callbacks to run for it.

    Args:
        lease: The batch.
        how: "delivered", "dead" or "damaged".
        cause: Why it was given up.
        hooked: Whether a hook wants its messages.
        reply: The reply.

    Raises:
        Stale: The lease's token was refused.
    """
    verdict, callbacks = reply
    unless_stale(verdict)
    return Settled.of(lease, how, cause, callbacks, keep_body=hooked) if verdict else None


def unless_stale(reply: int) -> None:
    """Raise ``Stale`` where a reply says that a lease's token was refused."""
    if reply < 0:
        raise Stale
