"""The debugger's API: what the pages show and do, as JSON, for programs.

A page of another site cannot read it, since no answer allows that, and cannot change anything:
POST takes JSON alone and DELETE is no method of a form, which browsers ask about beforehand, and
both refuse what a browser says to come from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import msgspec
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    NotFound,
    UnsupportedMediaType,
)
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from celery_segment.errors import ValidationError
from celery_segment.web.debugger.failures import Failure, Failures, read_failure
from celery_segment.web.debugger.records import Message, RequestRecord
from celery_segment.web.debugger.search import FIELDS, Found, Search, read_filter
from celery_segment.web.debugger.store import Store
from celery_segment.web.wsgi import is_of_another_site

__all__ = ["PREFIX", "Api"]

PREFIX = "/api/"
#: The most messages or requests of an answer, and how many there are by default.
_MOST, _DEFAULT = 1_000, 100
#: The longest wait, and how often it looks whether the server stops, in seconds.
_LONGEST_WAIT, _LOOK = 60.0, 0.25
_HIGHEST = 1 << 62


class Api:
    """Answers the requests below ``/api/``.

    Args:
        store: What has arrived.
        search: Finds in it.
        failures: What the endpoint is told to do wrong.
    """

    def __init__(self, store: Store, search: Search, failures: Failures) -> None:
        self._store, self._search, self._failures = store, search, failures
        rules: list[tuple[str, str, Callable[..., Any]]] = [
            ("messages", "GET", self._messages),
            ("messages", "DELETE", self._clear),
            ("messages/<int:number>", "GET", self._message),
            ("requests", "GET", self._requests),
            ("requests/<int:number>", "GET", self._request),
            ("failures", "GET", self._list_failures),
            ("failures", "POST", self._add_failure),
            ("failures", "DELETE", self._clear_failures),
            ("failures/<int:number>", "DELETE", self._remove_failure),
        ]
        self._map = Map([
            Rule(PREFIX + rule, methods=[method], endpoint=handler)
            for rule, method, handler in rules
        ])  # fmt: skip

    def __call__(self, request: Request) -> Response | None:
        """Answer a request; return None where it is for a page."""
        if not request.path.startswith(PREFIX):
            return None
        try:
            if request.method not in {"GET", "HEAD"} and is_of_another_site(request):
                raise Forbidden("a page of another site may not change anything")
            handler, values = self._map.bind_to_environ(request.environ).match()
            return _json(*handler(request, **values))
        except ValidationError as error:
            return _json({"error": str(error)}, 400)
        except HTTPException as error:
            response = _json({"error": error.description or error.name}, error.code or 400)
            allowed = getattr(error, "valid_methods", None)
            if allowed:
                response.headers["Allow"] = ", ".join(sorted(allowed))
            return response

    # Messages

    def _messages(self, request: Request) -> tuple[Any, int]:
        given = _Query(request, (*FIELDS, "after", "limit", "wait", "count"))
        wanted = read_filter(given.text)
        after, limit = given.whole("after", 0, 0, _HIGHEST), given.limit()
        count = given.whole("count", 1, 1, _MOST)
        until = time.monotonic() + given.number("wait", 0.0, _LONGEST_WAIT)
        stopping = request.environ.get("celery_segment.stopping")
        while True:
            version = self._store.version
            found = self._search.oldest(wanted, after, max(limit, count))
            left = until - time.monotonic()
            if len(found.messages) >= count or left <= 0 or (stopping and stopping.is_set()):
                return self._page(found, after, limit), 200
            self._store.wait(version, min(left, _LOOK))

    def _page(self, found: Found, after: int, limit: int) -> dict[str, Any]:
        shown = found.messages[:limit]
        return {
            "messages": [self._describe(message) for message in shown],
            "total": found.total,
            "after": shown[-1].number if shown else after,
        }

    def _message(self, _: Request, number: int) -> tuple[Any, int]:
        message = self._store.message(number)
        if message is None:
            raise NotFound(f"there is no message {number}, or it is not kept any more")
        return self._describe(message), 200

    def _describe(self, message: Message) -> dict[str, Any]:
        return {
            "number": message.number,
            "at": _time(message.at),
            "source": message.source,
            "status": message.status,
            "accepted": message.accepted,
            "arrivals": message.arrivals,
            "requests": message.requests,
            "bytes": message.size,
            "violations": [v._asdict() for v in message.violations],
            "message": msgspec.Raw(message.raw),
        }

    def _clear(self, _: Request) -> tuple[Any, int]:
        return {"deleted": self._store.clear()}, 200

    # Requests

    def _requests(self, request: Request) -> tuple[Any, int]:
        given = _Query(request, ("after", "limit"))
        after = given.whole("after", 0, 0, _HIGHEST)
        found = self._store.requests_after(after)[: given.limit()]
        last = found[-1].number if found else after
        return {"requests": list(map(_describe_request, found)), "after": last}, 200

    def _request(self, _: Request, number: int) -> tuple[Any, int]:
        record = self._store.request(number)
        if record is None:
            raise NotFound(f"there is no request {number}, or it is not kept any more")
        return _describe_request(record), 200

    # Failures

    def _list_failures(self, _: Request) -> tuple[Any, int]:
        return {"failures": list(map(_describe_failure, self._failures.all()))}, 200

    def _add_failure(self, request: Request) -> tuple[Any, int]:
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("Content-Type must be application/json")
        try:
            values = msgspec.json.decode(request.get_data(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadRequest("the body must be an object of JSON") from None
        return _describe_failure(self._failures.add(read_failure(values))), 201

    def _clear_failures(self, _: Request) -> tuple[Any, int]:
        return {"removed": self._failures.clear()}, 200

    def _remove_failure(self, _: Request, number: int) -> tuple[Any, int]:
        if not self._failures.remove(number):
            raise NotFound(f"there is no failure {number}, or it is over")
        return {"removed": 1}, 200


class _Query:
    """The values of an address.

    Raises:
        ValidationError: A name is unknown, or a value is wrong.
    """

    def __init__(self, request: Request, names: tuple[str, ...]) -> None:
        self._given: Mapping[str, str] = request.args
        for name in self._given:
            if name not in names:
                raise ValidationError(name, f"is unknown: use {', '.join(names)}")

    def text(self, name: str) -> str | None:
        return self._given.get(name) or None

    def number(self, name: str, default: float, most: float) -> float:
        text = self._given.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise ValidationError(name, f"must be a number from 0 to {most:g}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        text = self._given.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
            raise ValidationError(name, f"must be a whole number from {least} to {most:,}")
        return int(text)

    def limit(self) -> int:
        return self.whole("limit", _DEFAULT, 1, _MOST)


def _describe_request(record: RequestRecord) -> dict[str, Any]:
    return {
        "number": record.number,
        "at": _time(record.at),
        "method": record.method,
        "path": record.path,
        "source": record.source,
        "status": record.status,
        "reply": record.reply,
        "accepted": record.accepted,
        "bytes": record.size,
        "retry_count": record.retry_count,
        "sent_at": record.sent_at,
        "headers": record.headers,
        "violations": record.violations,
        "messages": list(record.messages),
    }


def _describe_failure(failure: Failure) -> dict[str, Any]:
    described = asdict(failure)
    left = described.pop("left")
    return {**described, "requests": left, "text": failure.text}


def _time(at: float) -> str:
    text = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _json(value: Any, status: int) -> Response:
    return Response(msgspec.json.encode(value) + b"\n", status, mimetype="application/json")
