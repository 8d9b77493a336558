"""What a page is asked with, and what it answers: values, which a host turns into a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.exceptions import Forbidden
from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Request, Response

__all__ = ["Access", "Answer", "Done", "Page", "Visit"]


@dataclass(frozen=True, slots=True)
class Access:
    """What the visitor of a page may do. Whoever has one may read.

    Attributes:
        change: Whether to change anything: to replay, purge, pause.
        token_field: The name of the field of each form that proves where the form is from.
        token: What that field has to hold.
    """

    change: bool = False
    token_field: str = "token"  # noqa: S105 - the name of a field
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page.

    Attributes:
        request: The request.
        access: What the visitor may do.
        urls: The addresses of the site's pages, below the place where it is mounted.
    """

    request: Request = field(repr=False)
    access: Access
    urls: MapAdapter = field(repr=False)

    def url(self, route: str, /, **values: Any) -> str:
        """Return the address of a page, given the name of its route.

        Args:
            route: The name of the route.
            values: The parts of its path; others become the query, but for those that are None.
        """
        return self.urls.build(route, values)

    def argument(self, name: str) -> str | None:
        """Return a field of the query, or of the form; None where it is absent or empty."""
        value = self.request.values.get(name, "").strip()
        return value or None

    def need_change(self) -> None:
        """Refuse the visitor who may not change anything.

        Raises:
            Forbidden: The visitor may only read.
        """
        if not self.access.change:
            raise Forbidden("You may look at this, but not change it.")


@dataclass(frozen=True, slots=True)
class Page:
    """A page to show.

    Attributes:
        template: The template of its content.
        title: Its title.
        values: What the template shows.
        status: The status of the response.
        version: Of what it shows: as long as it is the same, an open page is not sent it again.
            "" where that is not known.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    status: int = 200
    version: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """An action that was carried out, or that failed.

    Attributes:
        text: What was done, for people: "replayed 12 messages".
        to: The address of the page to show next.
        source: The name of the source to which it was done.
        failed: Whether it failed.
    """

    text: str
    to: str
    source: str
    failed: bool = False


Answer = Page | Done | Response
