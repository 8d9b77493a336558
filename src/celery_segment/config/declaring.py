"""How a setting is declared: a dataclass field with its parser and its documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

__all__ = ["setting"]


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    doc: str,
    *,
    show: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: The default value.
        parse: Its parser, of ``celery_segment.config.parsers``.
        doc: Its description in the documentation.
        show: Its default in the documentation; by default, ``repr(default)``.
        secret: Whether to leave the value out of errors and the ``repr``.
    """
    shown = repr(default) if show is None else show
    metadata = {"parse": parse, "doc": doc, "show": shown, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)
