"""Declare a setting: its default, parser and documentation, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field, fields
from typing import Any

__all__ = ["declared", "setting"]


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    doc: str,
    *,
    show: str | None = None,
    secret: bool = False,
    from_environment: bool = False,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: The default value.
        parse: Its parser, of ``celery_segment.config.parsers``.
        doc: Its description in the documentation.
        show: Its default in the documentation; by default, ``repr(default)``.
        secret: Whether to leave the value out of errors and the ``repr``, and have Celery mask it.
        from_environment: Whether it is read from an environment variable, such as
            ``SEGMENT_WRITE_KEY``, where it is not set.
    """
    shown = repr(default) if show is None else show
    metadata = {
        "parse": parse,
        "doc": doc,
        "show": shown,
        "secret": secret,
        "from_environment": from_environment,
    }
    return field(default=default, metadata=metadata, repr=not secret)


def declared(cls: type[Any]) -> dict[str, Field[Any]]:
    """Return the fields of a class that are settings, by name."""
    return {f.name: f for f in fields(cls) if "parse" in f.metadata}
