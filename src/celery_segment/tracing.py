"""OpenTelemetry: the span of a delivery, linked to the spans in which its messages were tracked.

A call leaves the context of the span that it is made in beside its message, in W3C's
``traceparent`` form. It makes no span of its own: OpenTelemetry's messaging conventions
leave that to the library, and a call is one short round trip.

Nothing here imports OpenTelemetry. A process that has not done so has no span.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery_segment.version import __version__

__all__ = ["span_of_call", "span_of_delivery"]

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def span_of_call() -> bytes:
    """Return the ``traceparent`` of the recording span in which a call is made, if there is one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return b""
    # Another thread may have imported half of it so far.
    current = getattr(trace, "get_current_span", None)
    if current is None:
        return b""
    span = current()
    if not span.is_recording():
        return b""
    context = span.get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


@contextmanager
def span_of_delivery(
    source: str, batch: str, traces: Callable[[], Sequence[bytes]], *, messages: int, size: int
) -> Iterator[Callable[[str, str], None]]:
    """Have a span around one attempt at a batch, linked to its calls' ``traces``.

    Gives a function that is to be told under which status the attempt is counted, and the
    cause when the batch was not delivered, else "".
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield lambda *_: None
        return

    def link(found: re.Match[bytes]) -> Any:
        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        flags = trace.TraceFlags(flags)
        return trace.Link(trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))

    matches = map(_TRACEPARENT.fullmatch, traces())
    with trace.get_tracer("celery_segment", __version__).start_as_current_span(
        "segment.deliver",
        kind=trace.SpanKind.CLIENT,
        links=[link(found) for found in matches if found],
        attributes={
            "segment.source": source,
            "segment.batch": batch,
            "segment.messages": messages,
            "segment.bytes": size,
        },
    ) as span:

        def answered(status: str, cause: str) -> None:
            if status:
                span.set_attribute("segment.status", status)
            if cause:
                span.set_status(trace.Status(trace.StatusCode.ERROR, cause))

        yield answered
