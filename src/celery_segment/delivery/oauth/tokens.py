"""Get tokens from an authorization server, and keep one for as long as it is valid.

Each process has a token of its own, by source credentials. It is renewed by whoever needs it once
half of its life has passed, so no thread is needed; meanwhile, and where that fails, the other
threads go on with the old one.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from celery_segment.config import OAuth, Source
from celery_segment.delivery import transport
from celery_segment.delivery.answer import Answer, Unauthorized
from celery_segment.delivery.oauth.assertion import load_key, sign
from celery_segment.delivery.oauth.grant import (
    Denied,
    Failed,
    Grant,
    Granted,
    Limited,
    Outdated,
    read,
    skew_of,
)
from celery_segment.delivery.pause import backoff
from celery_segment.delivery.request import USER_AGENT, Request
from celery_segment.errors import ConfigurationError
from celery_segment.frames import hidden_locals

__all__ = ["Token", "Tokens", "tokens_of"]

_GRANT = "client_credentials"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: The share of a token's life that is left unused at its end: a request takes time to arrive.
MARGIN = 0.1
#: Seconds after which a thread that found another one asking looks again.
BUSY = 1.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token. Its ``repr`` does not show it.

    Attributes:
        text: The token.
        life: The seconds for which it is valid.
        renew_at: When half of them have passed, by ``time.monotonic()``.
        unused_from: When it is too close to its end to be used.
    """

    text: str = field(repr=False)
    life: float
    renew_at: float
    unused_from: float


class Tokens:
    """The token of an OAuth application in this process.

    Args:
        oauth: The credentials.
        server: The URL of the authorization server.
    """

    def __init__(self, oauth: OAuth, server: str) -> None:
        self._oauth = oauth
        self._server = server
        self._lock = Lock()
        self._key: Any = None
        self._token: Token | None = None
        self._failures = 0
        self._asks_from = 0.0
        self._last: Unauthorized | None = None
        #: By how many seconds this host's clock is ahead of the server's.
        self.skew = 0.0

    @hidden_locals()
    def get(self, source: Source) -> Token | Unauthorized:
        """Return a valid token, or why there is none.

        Args:
            source: A source that uses it, for its proxies, certificates and timeout.
        """
        token, now = self._token, time.monotonic()
        if token is not None and now < token.renew_at:
            return token
        usable = self._usable
        # With a token that still serves, nobody waits for the one who renews it.
        if not self._lock.acquire(timeout=0 if usable else source.timeout):
            return usable or Unauthorized("no token: another thread is asking for one", BUSY)
        try:
            return self._renewed(source)
        finally:
            self._lock.release()

    def forget(self, text: str) -> None:
        """Forget a token that was refused, unless it has been replaced meanwhile."""
        token = self._token
        if token is not None and token.text == text:
            self._token = None

    @property
    def _usable(self) -> Token | None:
        token = self._token
        return token if token is not None and time.monotonic() < token.unused_from else None

    def _renewed(self, source: Source) -> Token | Unauthorized:
        token, usable, now = self._token, self._usable, time.monotonic()
        if usable is not None and token is usable and now < usable.renew_at:
            return usable  # another thread has renewed it
        last = self._last
        # A refused configuration is asked again at each attempt: the source's gate spaces them.
        if last is not None and now < self._asks_from and (usable or last.wait is not None):
            return usable or Unauthorized(last.cause, self._asks_from - now)
        grant = self._asked_for(source)
        if isinstance(grant, Granted):
            return self._keep(grant, now)
        self._failures += 1
        wait = grant.wait if isinstance(grant, Limited) else backoff(self._failures)
        self._asks_from = time.monotonic() + wait
        is_passing = isinstance(grant, Limited | Failed)
        self._last = Unauthorized(grant.cause, wait if is_passing else None)
        return self._usable or self._last

    def _keep(self, grant: Granted, asked_at: float) -> Token:
        self._failures, self._last = 0, None
        life = grant.life
        half, end = asked_at + life / 2, asked_at + life * (1 - MARGIN)
        self._token = token = Token(grant.token, life, half, end)
        return token

    def _asked_for(self, source: Source) -> Grant:
        """Ask for a token; once more where the assertion's times were wrong."""
        try:
            grant = self._ask(source)
            return self._ask(source) if isinstance(grant, Outdated) else grant
        except ConfigurationError as error:
            return Denied(f"no token: {error}")

    def _ask(self, source: Source) -> Grant:
        if self._key is None:
            self._key = load_key(source.name, self._oauth)
        assertion = sign(self._key, self._oauth, self._server, time.time() - self.skew)
        result = transport.post(self._request(assertion), source)
        now, moved = datetime.now(timezone.utc), 0.0
        if isinstance(result, Answer):
            skew = skew_of(result.headers, now)
            if skew is not None:
                moved, self.skew = skew - self.skew, skew
        grant = read(result, now, moved=moved)
        if isinstance(grant, Denied | Outdated):
            self._key = None  # its file may have been replaced
        return grant

    def _request(self, assertion: str) -> Request:
        form = {
            "grant_type": _GRANT,
            "client_assertion_type": _ASSERTION,
            "client_assertion": assertion,
            "scope": self._oauth.scope,
        }
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        return Request(self._server, "/token", headers, urlencode(form).encode(), (assertion,))


_of_process: tuple[int, dict[tuple[OAuth, str], Tokens]] = (0, {})


def tokens_of(source: Source, oauth: OAuth) -> Tokens:
    """Return the tokens of this process for a source; sources with equal credentials share them.

    A forked process starts without any.
    """
    global _of_process  # noqa: PLW0603 - one tuple, replaced atomically
    if _of_process[0] != os.getpid():
        _of_process = (os.getpid(), {})
    server = oauth.server_of(source.host)
    return _of_process[1].setdefault((oauth, server), Tokens(oauth, server))
