"""The stub endpoint as a contestant: a process of its own, whose answers may take a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_segment.testing import Reply, SegmentServer


def setup(host: str) -> Callable[[dict[str, Any]], Any]:
    """Serve, and return a function that takes what to do and its argument.

    ``{"port": None}`` returns the port. ``{"answer_after": seconds}`` forgets all requests, and
    answers later ones after some seconds. ``{"await": number}`` waits for so many messages, and
    returns how many requests they came in, and the events per second that came between the first
    request and the last.
    """
    server = SegmentServer(host=host, record="ids")
    server.start()

    def port(_: None) -> int:
        return server.port

    def answer_after(seconds: float) -> None:
        server.clear()
        server.always(Reply.slow(seconds) if seconds else None)

    def wait(number: int) -> dict[str, float]:
        if not server.wait_for_messages(number, 60):
            raise RuntimeError(f"{len(server.received):,} of {number:,} messages were delivered")
        first, last = server.requests[0], server.requests[-1]
        later = len(server.received) - len(first.message_ids)
        return {"requests": len(server.requests), "rate": later / (last.at - first.at)}

    todo: dict[str, Callable[[Any], Any]] = {
        "port": port,
        "answer_after": answer_after,
        "await": wait,
    }

    def run(spec: dict[str, Any]) -> Any:
        ((what, argument),) = spec.items()
        return todo[what](argument)

    return run
