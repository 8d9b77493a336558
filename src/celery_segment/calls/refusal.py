"""What becomes of a call that is not valid: it raises, or is counted and logged.

A program's mistake may break a page only where ``segment_on_invalid`` is "raise". A visitor of
whom nothing is known is no mistake, and breaks none.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from celery._state import get_current_app

from celery_segment.calls.identity import current_person
from celery_segment.config import DEFAULT_SOURCE, Source
from celery_segment.errors import NoIdentity, SegmentBufferError, SegmentError, ValidationError
from celery_segment.producer import log_once
from celery_segment.producer.recording import is_view_alone, note_dropped
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.visitor import is_request

__all__ = ["is_block_refused", "is_refused"]


def is_refused(
    runtime: Runtime, build: Callable[..., Any], args: Any, kwargs: Any, error: Exception
) -> bool:
    """Count and log a call that is not valid, and return True; False where it is to raise.

    Args:
        runtime: The runtime of the application.
        build: The function that builds the call's message.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        error: What it raised.
    """
    if isinstance(error, SegmentBufferError):  # other settings decide
        return False
    source = _source(runtime, (kwargs or {}).get("source", DEFAULT_SOURCE))
    name = build.__name__
    if isinstance(error, NoIdentity) and (is_request(current_person()) or is_view_alone()):
        runtime.producer(source.name).drop("unidentified")
        _log(logging.INFO, name, "the visitor has no id: see segment_set_anonymous_id")
        return True
    if source.on_invalid == "raise":
        return False
    runtime.producer(source.name).drop("invalid")
    _log(logging.ERROR, name, _problem(build, args or (), kwargs or {}, error))
    return True


def is_block_refused(error: ValidationError) -> bool:
    """Log what a block gives its calls that is not valid, and return True; False if it raises."""
    source = runtime_of(get_current_app()).settings.sources[DEFAULT_SOURCE]
    if source.on_invalid == "raise":
        return False
    _log(logging.ERROR, "context", str(error))
    return True


def _source(runtime: Runtime, name: Any) -> Source:
    """Return a source; the default one for a name that is not configured."""
    sources = runtime.settings.sources
    return sources.get(name if isinstance(name, str) else "", sources[DEFAULT_SOURCE])


def _problem(build: Callable[..., Any], args: Any, kwargs: Any, error: Exception) -> str:
    """Return what is wrong, without the text of a foreign error, which may contain the data."""
    if isinstance(error, SegmentError):
        return str(error)
    if isinstance(error, TypeError):
        try:
            inspect.signature(build).bind(*args, **kwargs)
        except TypeError as misfit:
            return str(misfit)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__} was raised{where}"


def _log(level: int, call: str, problem: str) -> None:
    """Log a dropped call and the line that makes it; once for each line and problem.

    For a test that records calls, each is noted.
    """
    note_dropped(log_once(level, call, f"is dropped: {problem}"))
