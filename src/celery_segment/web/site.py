"""A site: its routes, and how a page becomes HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from celery_segment.errors import SegmentError, ValidationError
from celery_segment.text import one_line
from celery_segment.web.assets import digest_of, respond_with_asset
from celery_segment.web.rendering import ENVIRONMENT
from celery_segment.web.visit import Access, Answer, Page, Visit

__all__ = ["Route", "Site"]

_ASSET = "asset"
#: The status of a form whose values are refused; and of a page whose Redis does not answer.
_REFUSED, _UNAVAILABLE = 400, 503


@dataclass(frozen=True, slots=True)
class Route:
    """A page's place.

    Attributes:
        rule: Its path, as werkzeug's rules have it.
        name: The name by which templates and pages refer to it.
        handler: Called with the visit and the parts of the path.
        changes: Whether it changes anything: then it takes a form (POST), and visitors who may.
    """

    rule: str
    name: str
    handler: Callable[..., Answer]
    changes: bool = False


class Site:
    """Some pages.

    Args:
        name: What the pages are titled with.
        routes: The pages.
        navigation: The pages in the head of each, as route name and text.

    Attributes:
        name: What the pages are titled with.
        navigation: The pages in the head of each.
    """

    def __init__(
        self, name: str, routes: Iterable[Route], navigation: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.name = name
        self.navigation = tuple(navigation)
        self._routes = {route.name: route for route in routes}
        rules = [
            Rule(r.rule, endpoint=r.name, methods=["POST"] if r.changes else ["GET"])
            for r in self._routes.values()
        ]
        self._map = Map([*rules, Rule("/assets/<name>", endpoint=_ASSET, methods=["GET"])])

    def visit(self, request: Request, access: Access) -> Visit:
        """Return a request as the pages see it."""
        return Visit(request, access, self._map.bind_to_environ(request.environ))

    def answer(self, visit: Visit) -> Answer:
        """Answer a request: never with an error, but with a page that tells of it."""
        try:
            return self._dispatch(visit)
        except HTTPException as error:
            if error.response is not None or error.code is None or error.code < 400:  # noqa: PLR2004
                return Response.force_type(error.get_response(visit.request.environ))
            return _error(error.name, error.description or "", error.code)
        except ValidationError as error:
            return _error("Not accepted", str(error), _REFUSED)
        except SegmentError as error:
            return _error("Not available", str(error), _UNAVAILABLE)

    def _dispatch(self, visit: Visit) -> Answer:
        name, values = visit.urls.match()
        if name == _ASSET:
            return respond_with_asset(**values)
        route = self._routes[name]
        if route.changes:
            visit.need_change()
        return route.handler(visit, **values)

    def content(self, visit: Visit, page: Page) -> str:
        """Return the content of a page, for a host that has a frame of its own."""
        return ENVIRONMENT.get_template(page.template).render(self._values(visit, page))

    def document(self, visit: Visit, page: Page, done: tuple[str, bool] | None = None) -> str:
        """Return a whole page.

        Args:
            visit: The visit.
            page: The page.
            done: What was done before, and whether it failed, to be told above the page.
        """
        values = self._values(visit, page)
        content = ENVIRONMENT.get_template(page.template).render(values)
        frame = ENVIRONMENT.get_template("frame.html")
        path = visit.request.root_path + visit.request.path
        around = {"content": content, "done": done, "navigation": self.navigation, "path": path}
        return frame.render({**values, **around})

    def asset(self, visit: Visit, name: str) -> str:
        """Return the address of an asset."""
        return visit.url(_ASSET, name=name, v=digest_of(name))

    def _values(self, visit: Visit, page: Page) -> dict[str, Any]:
        shared = {
            "access": visit.access,
            "asset": partial(self.asset, visit),
            "site": self.name,
            "title": one_line(page.title),
            "url": visit.url,
        }
        return {**shared, **page.values}


def _error(title: str, text: str, status: int) -> Page:
    return Page("error.html", title, {"text": text, "is_away": status == _UNAVAILABLE}, status)
