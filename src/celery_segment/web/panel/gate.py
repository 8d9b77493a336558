"""Pause, resume and flush a source."""

from __future__ import annotations

from math import ceil

from celery_segment.operations.flush import Flush, wait_for
from celery_segment.text import counted, duration
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Done, Visit

__all__ = ["flush", "pause", "resume"]

#: Seconds for which a page waits for the workers.
PATIENCE = 5.0


def pause(panel: Panel, visit: Visit, name: str) -> Done:
    """Stop the delivery of a source."""
    if panel.source(name).pause():
        text = "Paused. Calls are still stored, and delivered once it is resumed."
    else:
        text = "It was paused already."
    return Done(text, visit.url("source", name=name), name)


def resume(panel: Panel, visit: Visit, name: str) -> Done:
    """Start the delivery of a source again."""
    wait = panel.source(name).resume()
    text = "Resumed. Delivery starts at once."
    if wait:
        left = duration(ceil(wait))
        text = f"Resumed. The endpoint asked for a wait (Retry-After): delivery goes on in {left}."
    return Done(text, visit.url("source", name=name), name)


def flush(panel: Panel, visit: Visit, name: str) -> Done:
    """Have the workers deliver what a source holds, and wait for it as long as a page may."""
    started = Flush(panel.runtime, panel.source(name).source)
    left = 0 if started.gate().state == "paused" else PATIENCE
    wait_for([started], left)
    to = visit.url("source", name=name)
    if not started.remaining:
        text = (
            f"Flushed {counted(started.total, 'message')}." if started.total else "Nothing waits."
        )
        return Done(text, to, name)
    many = counted(started.remaining, "message")
    why = "the workers were asked to deliver them"
    gate = started.gate()
    if gate.state != "open":
        why = f"the source is {gate}"
    return Done(f"{many} of {started.total:,} remain: {why}.", to, name, failed=True)
