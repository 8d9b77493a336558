"""Ask the endpoints and the authorization servers of sources, all at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Thread
from typing import TypeVar

from celery_segment.config import OAuth, Source
from celery_segment.delivery.answer import Answer, Failure, Unauthorized
from celery_segment.delivery.oauth.tokens import Token, Tokens
from celery_segment.delivery.transport import reach
from celery_segment.operations.findings import Finding, of_endpoint, of_token

__all__ = ["LIMIT", "Remote", "ask_remote", "in_thread", "left"]

T = TypeVar("T")
#: The result of a request to an endpoint, and how many seconds it took.
_Reached = Future[tuple[Answer | Failure, float]]
#: A token or why there is none, and by how many seconds this host's clock is ahead.
_Granted = Future[tuple[Token | Unauthorized, float]]

#: Seconds after which a missing answer is reported as a failure.
LIMIT = 7.0
#: Longest time for one request, in seconds, even if the settings allow more.
ENDPOINT = 5.0


@dataclass(frozen=True, slots=True)
class Remote:
    """What was asked.

    Attributes:
        endpoints: Requests to the endpoints, by the source's name.
        tokens: Requests for a token, likewise.
    """

    endpoints: Mapping[str, _Reached] = field(default_factory=dict, repr=False)
    tokens: Mapping[str, _Granted] = field(default_factory=dict, repr=False)

    def judge(self, source: Source, deadline: float) -> Iterator[Finding]:
        """Judge the answers for a source.

        Args:
            source: The source.
            deadline: Until when to wait for them, by ``time.monotonic()``.
        """
        if source.name in self.tokens:
            yield _of_token(source, self.tokens[source.name], deadline)
        if source.name in self.endpoints:
            yield _of_endpoint(source, self.endpoints[source.name], deadline)


def ask_remote(sources: list[Source]) -> Remote:
    """Start to ask for the given sources."""
    return Remote(_ask_endpoints(sources), _ask_for_tokens(sources))


def in_thread(ask: Callable[[], T]) -> Future[T]:
    """Call in a daemon thread, which can be abandoned: name resolution has no timeout."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def left(deadline: float) -> float:
    """Return the seconds until a time by ``time.monotonic()``."""
    return max(deadline - time.monotonic(), 0)


def _ask_endpoints(sources: list[Source]) -> dict[str, _Reached]:
    """Send a request to the endpoint of each source; once if several sources share it."""

    def ask(source: Source) -> tuple[Answer | Failure, float]:
        started = time.monotonic()
        result = reach(replace(source, timeout=min(source.timeout, ENDPOINT)))
        return result, time.monotonic() - started

    asked: dict[tuple[object, ...], _Reached] = {}
    found = {}
    for source in sources:
        route = (source.host, source.timeout, source.ca_bundle, str(source.proxies))
        if route not in asked:
            asked[route] = in_thread(partial(ask, source))
        found[source.name] = asked[route]
    return found


def _ask_for_tokens(sources: list[Source]) -> dict[str, _Granted]:
    """Ask for a token with the credentials of each source that has some here."""

    def ask(source: Source, oauth: OAuth) -> tuple[Token | Unauthorized, float]:
        tokens = Tokens(oauth, oauth.server_of(source.host))
        found = tokens.get(replace(source, timeout=min(source.timeout, ENDPOINT)))
        return found, tokens.skew

    return {
        source.name: in_thread(partial(ask, source, source.oauth))
        for source in sources
        if source.oauth is not None
    }


def _of_endpoint(source: Source, asked: _Reached, deadline: float) -> Finding:
    try:
        result, took = asked.result(left(deadline))
    except Overdue:
        result, took = Failure(f"no answer from {source.host} within {LIMIT:g} s", "timeout"), LIMIT
    return of_endpoint(source, result, took)


def _of_token(source: Source, asked: _Granted, deadline: float) -> Finding:
    try:
        result, skew = asked.result(left(deadline))
    except Overdue:
        result, skew = Unauthorized(f"no token within {LIMIT:g} s", LIMIT), 0.0
    return of_token(source, result, skew)
