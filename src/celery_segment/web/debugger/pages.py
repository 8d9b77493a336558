"""The debugger's pages."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import datetime
from secrets import token_hex
from typing import Any

import msgspec
from werkzeug.exceptions import BadRequest, NotFound

from celery_segment.errors import ValidationError
from celery_segment.messages import TYPES
from celery_segment.text import counted
from celery_segment.web.debugger.failures import KINDS, Failures, read_failure
from celery_segment.web.debugger.records import Message
from celery_segment.web.debugger.search import FIELDS, Filter, Search, read_filter
from celery_segment.web.debugger.store import Store
from celery_segment.web.site import Route, Site
from celery_segment.web.visit import Answer, Done, Page, Visit
from celery_segment.web.wsgi import LiveHeader

__all__ = ["debugger_site"]

#: Rows of a page, names that are offered, and messages of a request that are listed.
_ROWS, _NAMES, _LISTED = 100, 200, 200
#: The longest that an open page waits for a change, and how often it is looked for one that does
#: not arrive by a request, in seconds.
_LONGEST_WAIT, _LOOK = 5, 0.25


def debugger_site(store: Store, search: Search, failures: Failures) -> Site:
    """Return the debugger's pages.

    Args:
        store: What has arrived.
        search: Finds in it.
        failures: What the endpoint is told to do wrong.
    """
    pages = _Pages(store, search, failures)
    return Site(
        "Segment debugger",
        [
            Route("/", "messages", pages.messages),
            Route("/messages/<int:number>", "message", pages.message),
            Route("/requests", "requests", pages.requests),
            Route("/requests/<int:number>", "request", pages.request),
            Route("/failures", "failures", pages.failures),
            Route("/clear", "clear", pages.clear, changes=True),
            Route("/failures/add", "add-failure", pages.add_failure, changes=True),
            Route("/failures/remove", "remove-failure", pages.remove_failure, changes=True),
        ],
        [("messages", "Messages"), ("requests", "Requests"), ("failures", "Failures")],
    )


class _Pages:
    def __init__(self, store: Store, search: Search, failures: Failures) -> None:
        self._store, self._search, self._failures = store, search, failures
        # An open page may have a version of a debugger that ran before.
        self._run = token_hex(4)

    def messages(self, visit: Visit) -> Answer:
        """Show the messages, newest first, and beside them one that is open."""
        version = self._version(visit)
        wanted = _filter_of(visit)
        before = _number(visit, "before")
        found = self._search.newest(wanted, before, _ROWS)
        number = _number(visit, "open")
        opened = None if number is None else self._store.message(number)
        query = {name: visit.argument(name) for name in (*FIELDS, "before")}
        values = {
            "found": found,
            "wanted": wanted,
            "filtered": wanted != Filter(),
            "before": before,
            "query": query,
            "kept": self._store.count,
            "opened": opened and self._details(opened),
            "gone": number is not None and opened is None,
            "types": list(TYPES),
            # The filters of an open page stay as they are.
            "names": () if LiveHeader in visit.request.headers else self._store.names(_NAMES),
            "sources": self._store.sources(),
            "failures": self._failures.all(),
            "address": visit.request.host_url.rstrip("/"),
        }
        return Page("debugger/messages.html", "Messages", values, version=version)

    def _version(self, visit: Visit) -> str:
        """Return a text that changes with what is shown. It is read before that.

        An open page that has the present one may wait for the next (``Prefer: wait``, RFC 7240), so
        that what arrives is shown at once.
        """
        preferred = re.fullmatch("wait=([0-9]{1,3})", visit.request.headers.get("Prefer", ""))
        until = time.monotonic() + min(int(preferred[1]) if preferred else 0, _LONGEST_WAIT)
        stopping = visit.request.environ.get("celery_segment.stopping")
        while True:
            arrived = self._store.version
            version = f"{self._run}-{arrived}-{self._failures.version}"
            left = until - time.monotonic()
            if not visit.request.if_none_match.contains(version) or left <= 0:
                return version
            if stopping is not None and stopping.is_set():
                return version
            self._store.wait(arrived, min(left, _LOOK))

    def message(self, visit: Visit, number: int) -> Answer:
        """Show a message."""
        version = self._version(visit)
        message = self._store.message(number)
        if message is None:
            raise NotFound("There is no such message, or it is not kept any more.")
        title = f"Message {number}"
        values = {"opened": self._details(message)}
        return Page("debugger/message.html", title, values, version=version)

    def _details(self, message: Message) -> dict[str, Any]:
        """Return what is shown of a message: itself, its requests, and its neighbours."""
        requests = [(number, self._store.request(number)) for number in message.requests]
        return {
            "message": message,
            "delay": _delay(message),
            "requests": requests,
            "older": self._store.message(message.number - 1),
            "newer": self._store.message(message.number + 1),
        }

    def requests(self, visit: Visit) -> Answer:
        """Show the requests, newest first."""
        version = self._version(visit)
        before = _number(visit, "before")
        found = self._store.requests(before, _ROWS + 1)
        values = {
            "requests": found[:_ROWS],
            "more": len(found) > _ROWS,
            "before": before,
            "failures": self._failures.all(),
        }
        return Page("debugger/requests.html", "Requests", values, version=version)

    def request(self, visit: Visit, number: int) -> Answer:  # noqa: ARG002 - each handler's
        """Show a request, and its messages."""
        request = self._store.request(number)
        if request is None:
            raise NotFound("There is no such request, or it is not kept any more.")
        listed = map(self._store.message, request.messages[:_LISTED])
        values = {
            "request": request,
            "messages": [message for message in listed if message],
            "batches": [n for n in (number - 1, number + 1) if self._store.request(n)],
        }
        return Page("debugger/request.html", f"Request {number}", values)

    def failures(self, visit: Visit) -> Answer:
        """Show what the endpoint does wrong, and what it could."""
        version = self._version(visit)
        values = {
            "failures": self._failures.all(),
            "kinds": KINDS,
            "names": self._store.names(_NAMES),
            "requests": self._store.requests(None, 8),
        }
        return Page("debugger/failures.html", "Failures", values, version=version)

    def clear(self, visit: Visit) -> Answer:
        """Delete all messages and requests."""
        deleted = counted(self._store.clear(), "message")
        return Done(f"Deleted {deleted}.", visit.url("messages"), "")

    def add_failure(self, visit: Visit) -> Answer:
        """Switch a failure on."""
        back = visit.url("failures")
        try:
            failure = self._failures.add(read_failure(_values_of(visit)))
        except ValidationError as error:
            return Done(str(error), back, "", failed=True)
        times = f" for {counted(failure.left, 'request')}" if failure.left else ""
        return Done(f"The endpoint now {failure.text}{times}.", back, "")

    def remove_failure(self, visit: Visit) -> Answer:
        """Switch one failure off, or all."""
        number = _number(visit, "number")
        if number is None:
            self._failures.clear()
        else:
            self._failures.remove(number)
        return Done("Switched off.", visit.url("failures"), "")


def _delay(message: Message) -> float | None:
    """Return how many seconds after its timestamp a message arrived first; None if it has none."""
    with suppress(msgspec.MsgspecError):
        timestamp = msgspec.json.decode(message.raw).get("timestamp")
        called = msgspec.convert(timestamp, datetime)
        if called.tzinfo is not None:
            return message.at - called.timestamp()
    return None


def _filter_of(visit: Visit) -> Filter:
    try:
        return read_filter(visit.argument)
    except ValidationError as error:
        raise BadRequest(str(error)) from None


def _number(visit: Visit, name: str) -> int | None:
    text = visit.argument(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004 - as 64 bits have
        raise BadRequest(f"{name} must be a number")
    return int(text)


def _values_of(visit: Visit) -> dict[str, Any]:
    """Return a form's failure, as the API has it: what is left empty is left out."""
    values: dict[str, Any] = {
        name: visit.argument(name)
        for name in ("kind", "seconds", "status", "event", "requests")
        if visit.argument(name) is not None
    }
    for name, convert in (("seconds", float), ("status", int), ("requests", int)):
        if name in values:
            try:
                values[name] = convert(values[name])
            except ValueError:
                raise ValidationError(name, "must be a number") from None
    return values
