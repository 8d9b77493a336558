"""Client with the names and signatures of Segment's Python client, on the durable buffer.

The arguments of ``Client``, their order and their defaults are those of
segment-analytics-python 2.4.0. docs/how-to/drop-in.md explains each option.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Concatenate, NoReturn, ParamSpec, Protocol, overload

from celery import current_app

from celery_segment import messages
from celery_segment.analytics.source import check_oauth, choose, without_effect
from celery_segment.calls import api
from celery_segment.calls.identity import take_back
from celery_segment.calls.refusal import is_refused
from celery_segment.calls.task import Call
from celery_segment.config import DEFAULT_SOURCE, Source
from celery_segment.errors import BufferFull, SegmentBufferError, WriteKeyMissing
from celery_segment.messages import Message
from celery_segment.operations.source import Analytics
from celery_segment.producer import Producer
from celery_segment.runtime import runtime_of

__all__ = ["Client"]

P = ParamSpec("P")
Result = tuple[bool, dict[str, Any]]
OnError = Callable[[Exception, list[dict[str, Any]]], Any]

#: Longest time that a flush waits by default, in seconds.
FLUSH = 30.0


class Waiting:
    """The messages that wait for delivery, with the methods of ``queue.Queue`` that count them.

    The messages of the source are counted, regardless of the process that stored them.

    Attributes:
        maxsize: The ``max_queue_size`` of the client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.maxsize = client.max_queue_size

    def qsize(self) -> int:
        """Return the number of stored messages that are not settled yet."""
        return self._client.waiting()

    def empty(self) -> bool:
        """Return whether all stored messages are settled."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether ``maxsize`` messages wait; its default means no limit here."""
        if self.maxsize <= 0 or self.maxsize == Client.max_queue_size:
            return False
        with suppress(SegmentBufferError):  # storing reports the error, or spills
            return self.qsize() >= self.maxsize
        return False


class _Method(Protocol[P]):
    """Type of a method with a call's arguments; not every type checker binds a Callable."""

    @overload
    def __get__(
        self, client: None, owner: Any = None, /
    ) -> Callable[Concatenate[Client, P], Result]: ...
    @overload
    def __get__(self, client: Client, owner: Any = None, /) -> Callable[P, Result]: ...


def _method(name: str, call: Call[P]) -> _Method[P]:  # noqa: ARG001 - gives the signature
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self._record(name, args, kwargs)

    method.__name__, method.__qualname__ = name, f"Client.{name}"
    method.__doc__ = f"Store a message; the arguments are those of ``celery_segment.{name}``."
    return method


@dataclass(eq=False, repr=False)
class Client:
    """Client of one source, with the methods of ``segment.analytics.Client``.

    A call returns ``(True, message)`` once the message is stored. If the buffer does not
    accept it, the call runs ``on_error(error, [message])`` and returns ``(False, message)``. A
    call that is not valid raises, or returns ``(False, {})`` as ``segment_on_invalid`` says.

    The source is the one given by ``source``, or the one that has ``write_key`` in the
    configuration of this process. If the configuration has no write key and no source but
    the default one, that is used.

    Raises:
        WriteKeyMissing: Neither a write key nor a source is given.
        ValueError: A duration is negative or None.
        ConfigurationError: Raised by the first call: the source is not configured, or the
            write key belongs to another source or to none, or what is given for OAuth
            contradicts its ``segment_oauth``.
    """

    write_key: str | None = None
    host: str | None = None
    debug: bool = False
    max_queue_size: int = 10_000
    send: bool = True
    on_error: OnError | None = None
    gzip: bool = False
    max_retries: int = 10
    sync_mode: bool = False
    timeout: float = 15
    proxies: dict[str, str] | None = None
    thread: int = 1
    upload_size: int = 100
    upload_interval: float = 0.5
    log_handler: logging.Handler | None = None
    oauth_client_id: str | None = None
    oauth_client_key: str | None = None
    oauth_key_id: str | None = None
    oauth_auth_server: str = "https://oauth2.segment.io"
    oauth_scope: str = "tracking_api:write"
    max_total_backoff_duration: float = 43_200
    max_rate_limit_duration: float = 1_800
    source: str | None = field(default=None, kw_only=True)
    app: Any = field(default=None, kw_only=True)

    log: ClassVar[logging.Logger] = logging.getLogger("celery_segment")
    #: The consumer threads; there are none.
    consumers: ClassVar[tuple[()]] = ()

    def __post_init__(self) -> None:
        if self.source is None and not isinstance(self.write_key, str):
            raise WriteKeyMissing(
                "Client() got neither a write key nor a source",
                hint="give the source's write_key, or name the source, as in"
                f" Client(source={DEFAULT_SOURCE!r})",
            )
        for name in ("max_total_backoff_duration", "max_rate_limit_duration"):
            seconds = getattr(self, name)
            if seconds is None or seconds < 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}")
        self.queue = Waiting(self)
        if self.log_handler:
            self.log.addHandler(self.log_handler)
        if self.debug:
            self.log.setLevel(logging.DEBUG)
            if not self.log.handlers:
                self.log.addHandler(logging.StreamHandler())

    def __repr__(self) -> str:
        return "Client()" if self.source is None else f"Client(source={self.source!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Client cannot be pickled, as it may hold a write key: create one where it is used"
        )

    identify = _method("identify", api.identify)
    track = _method("track", api.track)
    alias = _method("alias", api.alias)
    group = _method("group", api.group)
    page = _method("page", api.page)
    screen = _method("screen", api.screen)

    def flush(self, timeout: float = FLUSH) -> int:
        """Have the workers deliver all messages stored now, and wait for it.

        Args:
            timeout: Longest time to wait, in seconds.

        Returns:
            The number of messages that remain. They stay stored, and the workers deliver
            them later.
        """
        if not self.send:
            return 0
        remaining = self._analytics.flush(timeout)
        if remaining:
            text = "%s: messages that remain after %g s, and stay stored: %s"
            self.log.warning(text, self._analytics.source, timeout, f"{remaining:,}")
        return remaining

    def join(self) -> None:
        """Return at once: there is no thread to wait for."""

    def shutdown(self) -> int:
        """Call ``flush``; there is nothing else to shut down."""
        return self.flush()

    def waiting(self) -> int:
        """Return the number of stored messages of the source that are not settled yet."""
        if not runtime_of(self._app).producer(self._source.name).delivers:
            return 0
        return self._analytics.stats().waiting

    def _record(self, name: str, args: Any, kwargs: Any) -> Result:
        source = self._source
        task = self._app.tasks[f"segment.{name}"]
        try:
            producer, data, shown = self._prepare(task, source, args, kwargs)
        except Exception as error:
            given = {**kwargs, "source": source.name}
            if not is_refused(runtime_of(self._app), task.build, args, given, error):
                raise
            return False, {}
        if producer is None or data is None:  # not to be sent, or dropped by segment_before_send
            return True, shown
        return self._store(producer, data, shown), shown

    def _prepare(
        self, task: Any, source: Source, args: Any, kwargs: Any
    ) -> tuple[Producer | None, bytes | None, dict[str, Any]]:
        _, message = task.build(*args, **kwargs, source=source.name)
        if not self.send:
            # It raises if a value has no JSON form, or the message is too large.
            messages.encode(message)
            return None, None, _shown(message)
        producer = runtime_of(self._app).producer(source.name)
        data = producer.prepare(message)
        if data is not None and source.before_send is not None:
            message = messages.from_wire(messages.decode(data))
        return producer, data, _shown(message)

    def _store(self, producer: Producer, data: bytes, shown: dict[str, Any]) -> bool:
        try:
            if self.queue.full():
                raise BufferFull(
                    "as many messages are waiting as max_queue_size allows"
                    f" ({self.max_queue_size:,})"
                )
            producer.store(data)
        except SegmentBufferError as error:
            take_back(shown["messageId"])
            self.log.warning("%s is not stored: %s", shown["type"], error)
            if self.on_error:
                self.on_error(error, [shown])
            return False
        self.log.debug("%s is stored: %s", shown["type"], shown["messageId"])
        if runtime_of(self._app).eager:  # there is no worker that checks the buffer periodically
            producer.wake()
        elif self.sync_mode:
            self._wait()
        return True

    def _wait(self) -> None:
        bounded = isinstance(self.timeout, int | float)
        try:
            self.flush(self.timeout if bounded else FLUSH)
        except SegmentBufferError as error:
            self.log.warning(
                "the message is stored, but the wait for its delivery failed: %s", error
            )

    @cached_property
    def _app(self) -> Any:
        # At the first call, since a client is often created before its Celery application.
        return self.app or current_app._get_current_object()  # noqa: SLF001 - Celery's documented way

    @cached_property
    def _source(self) -> Source:
        source = choose(runtime_of(self._app).settings, self.source, self.write_key)
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: value for name, value in given.items() if value != getattr(Client, name)}
        check_oauth(given, source)
        ignored = ", ".join(without_effect(given, source))
        if ignored:
            self.log.warning("options without effect in the calling process: %s", ignored)
        return source

    @property
    def _analytics(self) -> Analytics:
        return Analytics(self._source.name, app=self._app)


def _shown(message: Message) -> dict[str, Any]:
    """Return a message as a dict with the names on the wire and the caller's own values.

    As in Segment's library, a field that is not sent is None or an empty dict.
    """
    content: dict[str, Any] = {"type": message.__struct_config__.tag}
    names = zip(message.__struct_encode_fields__, message.__struct_fields__, strict=True)
    for name, attribute in names:
        value = getattr(message, attribute)
        content[name] = {} if value is None and name in _OBJECTS else value
    given = message.context if isinstance(message.context, dict) else {}
    content["context"] = {**given, "library": dict(messages.LIBRARY)}
    return content


_OBJECTS = frozenset(("properties", "traits", "integrations"))
