"""Who acts in the present request, for the calls that are made in it.

A web integration enters a visitor for each request. A call takes from it what it does
not say itself; a request that calls nothing asks its visitor nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Visitor", "present", "within"]


class Visitor(Protocol):
    """The person who acts in a request, as the request tells. It is asked at each call."""

    @property
    def user_id(self) -> Any:
        """The id of the user who is logged in, or None. A login changes it."""

    @property
    def anonymous_id(self) -> str | None:
        """The id from before the user was known, or None."""

    @property
    def context(self) -> Mapping[str, Any]:
        """What surrounds the visitor's calls: ip, userAgent, locale, page."""

    def new_anonymous_id(self) -> str | None:
        """Return an id for a visitor who has none, and keep it; None where none is to be given."""


_visitor: ContextVar[Visitor | None] = ContextVar("visitor", default=None)

#: Return the present request's visitor; None outside of any.
present = _visitor.get


@contextmanager
def within(visitor: Visitor | None) -> Iterator[None]:
    """Let the calls of a block be those of a visitor, or of none."""
    token = _visitor.set(visitor)
    try:
        yield
    finally:
        _visitor.reset(token)
