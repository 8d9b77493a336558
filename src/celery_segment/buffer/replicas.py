"""Wait until replicas have what a script wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_segment.buffer.scripts import Script
from celery_segment.buffer.topology.types import Server
from celery_segment.errors import BufferUnavailable

__all__ = ["send_confirmed"]


def send_confirmed(
    server: Server,
    script: Script,
    command: bytes,
    replicas: int,
    *,
    refuses: Callable[[Any], bool] = bool,
    once: bool = False,
) -> Any:
    """Send an encoded call of a script; return its reply once enough replicas have what it wrote.

    Args:
        server: The server.
        script: The script.
        command: The encoded call.
        replicas: How many have to confirm it; 0 to wait for none.
        refuses: Returns whether a reply says that nothing was written.
        once: As for ``Pool.send``.

    Raises:
        BufferUnavailable: They do not confirm it in time. The primary has it: it is lost only
            if a replica without it takes over.
    """
    if not replicas:
        return server.send(script, command, once=once)
    reply, confirmed = server.send_and_wait(script, command, replicas, once=once)
    if refuses(reply) or confirmed >= replicas:
        return reply
    error = BufferUnavailable(
        f"{confirmed} of {replicas} replicas of Redis at {server.address} confirmed"
        " the operation in time",
        hint="check the replicas, or lower segment_wait_replicas",
    )
    error.unknown = 1
    raise error
