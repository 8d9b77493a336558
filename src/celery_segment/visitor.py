"""The visitor of the current web request, from whom calls get their ids and context.

A web integration sets the visitor for each request. A call uses the visitor's ids and context
for those that it is not given. A visitor's properties are read only when a call is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Visitor", "acting", "current_visitor"]


class Visitor(Protocol):
    """The person who makes a web request, as the request identifies them."""

    @property
    def user_id(self) -> Any:
        """The id of the logged-in user, or None. Read at each call, as a login changes it."""

    @property
    def anonymous_id(self) -> str | None:
        """The id from before the user is known, or None."""

    @property
    def context(self) -> Mapping[str, Any]:
        """The context for the visitor's calls: ip, userAgent, locale, page."""

    def new_anonymous_id(self) -> str | None:
        """Assign an anonymous id to the visitor and return it; None if that is not enabled."""


_visitor: ContextVar[Visitor | None] = ContextVar("visitor", default=None)

#: Return the visitor of the current request; None outside of a request.
current_visitor = _visitor.get


@contextmanager
def acting(visitor: Visitor | None) -> Iterator[None]:
    """Set the visitor for the calls within a ``with`` block; None for no visitor."""
    token = _visitor.set(visitor)
    try:
        yield
    finally:
        _visitor.reset(token)
