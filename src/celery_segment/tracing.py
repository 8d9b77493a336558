"""Trace deliveries with OpenTelemetry: each has a span, linked to the spans of its calls.

A call stores the context of the span in which it is made with its message, in the format of
the header ``traceparent`` (W3C Trace Context). It creates no span of its own: OpenTelemetry's
messaging conventions leave this to the library, and a call is one short round trip.

This module does not import OpenTelemetry: if nothing else in the process has, there can be no
span.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery_segment.version import __version__

__all__ = ["span_of_delivery", "trace_context"]

_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def trace_context() -> bytes:
    """Return the ``traceparent`` of the current span, or b"" if there is none that records."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return b""
    # Another thread may be importing the module, so that it is incomplete.
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
    source: str, batch: str, traces: Callable[[], Sequence[bytes]], *, count: int, size: int
) -> Iterator[Callable[[str, str], None]]:
    """Create a span around an attempt to deliver a batch.

    Args:
        source: The name of the source.
        batch: The batch's id.
        traces: A function that returns the ``traceparent`` of each call, to link the span to.
        count: The number of messages.
        size: Their size in bytes.

    Yields:
        A function that sets the outcome. Its arguments are the status under which the attempt
        is counted, and the cause if the batch was not delivered, otherwise "".
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
            "segment.messages": count,
            "segment.bytes": size,
        },
    ) as span:

        def set_outcome(status: str, cause: str) -> None:
            if status:
                span.set_attribute("segment.status", status)
            if cause:
                span.set_status(trace.Status(trace.StatusCode.ERROR, cause))

        yield set_outcome
