"""Make the debugger: a ``SegmentServer`` with a store, failures and pages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal

from celery_segment.errors import ConfigurationError
from celery_segment.testing.server import Received, SegmentServer
from celery_segment.web.debugger.failures import Failures
from celery_segment.web.debugger.keys import KeyNames
from celery_segment.web.debugger.search import Search
from celery_segment.web.debugger.store import MAX_BYTES, MAX_MESSAGES, CheckOf, Store, no_check

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["INSTALL", "Debugger"]

INSTALL = "pip install 'celery-segment[web]'"


class Debugger:
    """A local Segment endpoint that shows what arrives.

    Args:
        port: The port; 0 for any free one.
        host: The address to listen on.
        sources: The names of the sources by their write keys; None where none are known.
        host_names: Further names by which its pages may be asked, besides loopback's.
        password: What visitors have to give; None for none.
        write_keys: The write keys that are accepted; None for any.
        record: What the server itself keeps, which has no bounds: see ``SegmentServer``.
        in_flight_grace: See ``SegmentServer``.
        on_request: Called with each request.
        max_messages: How many messages are kept.
        max_bytes: How many bytes of memory they may take, about.
        check_of: Returns what holds a source's messages to its tracking plan, by its name; see
            ``planned.plan_check``.

    Attributes:
        server: The endpoint.
        store: What has arrived.
        search: Finds in it.
        failures: What the endpoint is told to do wrong.
        missing: The package without which there are no pages; "" if there are.
        has_password: Whether visitors have to give a password.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        sources: Mapping[str, str] | None = None,
        host_names: Collection[str] = (),
        password: str | None = None,
        write_keys: Collection[str] | None = None,
        record: Literal["messages", "ids", "nothing"] = "nothing",
        in_flight_grace: float = 0.0,
        on_request: Callable[[Received], None] | None = None,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        check_of: CheckOf = no_check,
    ) -> None:
        bounds = {"max_messages": max_messages, "max_bytes": max_bytes}
        self.store = Store(KeyNames(sources), check_of=check_of, **bounds)
        self.search = Search(self.store)
        self.failures = Failures()
        self.missing = ""
        self.has_password = bool(password)
        names = {*host_names, *(() if host in _ANY else (host,))}
        self.server = SegmentServer(
            port,
            write_keys,
            record,
            host=host,
            in_flight_grace=in_flight_grace,
            on_request=on_request,
            on_exchange=self.store.add,
            # Any token is accepted, as any key is: the key is then in the body.
            check_token=lambda _: "",
            override=self.failures,
            pages=self._pages(names, password or None),
        )

    def _pages(self, names: Collection[str], password: str | None) -> WSGIApplication | None:
        try:
            from celery_segment.web.debugger.application import make_application
        except ModuleNotFoundError as error:
            self.missing = (error.name or "a package").partition(".")[0]
            return None
        return make_application(self.store, self.search, self.failures, names, password)

    def need_pages(self) -> None:
        """Refuse to go on without pages.

        Raises:
            ConfigurationError: A package of the extra ``web`` is not installed.
        """
        if self.missing:
            raise ConfigurationError(f"{self.missing} is not installed", hint=INSTALL)


#: Addresses that stand for all of the machine's.
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with
