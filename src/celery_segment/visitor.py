"""The visitor of the current web request, from whom calls get their ids and context.

A web integration sets the visitor for each request. A call uses the visitor's ids and context
for those that it is not given. A visitor's properties are read only when a call is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Block", "Known", "Visitor", "acting", "current_visitor", "is_request", "outer_of"]


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


@dataclass(frozen=True, kw_only=True, repr=False)
class Known:
    """A visitor of whom all is known at once.

    Attributes:
        integrations: Destinations of the visitor's calls.
        outer: The visitor of the block around this one's, or of the request.
    """

    user_id: str | None = None
    anonymous_id: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    integrations: Mapping[str, Any] = field(default_factory=dict)
    outer: Visitor | None = None

    def new_anonymous_id(self) -> None:
        """Assign none: there is no cookie that would keep it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # the rest is personal data


class Block(Known):
    """What a program gives the calls of a block: perhaps no person, or one by one of two ids."""


def outer_of(visitor: Visitor) -> Visitor | None:
    """Return the visitor of the block or request around a visitor's."""
    return visitor.outer if isinstance(visitor, Known) else None


def is_request(visitor: Visitor | None) -> bool:
    """Return whether a visitor is that of a web request, or within one."""
    while isinstance(visitor, Block):
        visitor = visitor.outer
    return visitor is not None


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
        # A generator that has the block may be ended in another context, which the block
        # has not changed.
        with suppress(ValueError):
            _visitor.reset(token)
