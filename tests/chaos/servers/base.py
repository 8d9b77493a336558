"""What the stage asks of the servers, whichever they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import redis
from typing_extensions import Self

from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy


class Addresses(NamedTuple):
    """The URLs of one server, or of several that belong together.

    Attributes:
        producers: That of the producers.
        workers: Those that the workers have, in turn.
        stage: That of the stage itself.
    """

    producers: str
    workers: Sequence[str]
    stage: str

    def worker(self, number: int) -> str:
        """Return the URL that one of the workers has."""
        return self.workers[number % len(self.workers)]


class Store(Protocol):
    """The buffer's Redis.

    Attributes:
        conf: The settings that workers and producers have because of it.
        producers_links: Proxies through which the producers reach it.
        workers_links: Those of the workers.
    """

    conf: Mapping[str, Any]
    producers_links: Sequence[Proxy]
    workers_links: Sequence[Proxy]

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    @property
    def store_addresses(self) -> Addresses:
        """Where it is."""

    @property
    def primary(self) -> EmbeddedRedis:
        """The server that has the buffer now."""

    @property
    def client(self) -> redis.Redis:
        """A client of the primary."""

    def heal(self) -> None:
        """Have the proxies harm nothing any more."""

    def rewrite_files(self) -> None:
        """Have the servers rewrite their append-only files, so that they start quickly."""


class Broker(Protocol):
    """Celery's broker.

    Attributes:
        held: How many tasks are lost with a worker that is killed, at the most.
        options: The ``broker_transport_options`` of the producers.
        publishers_links: Proxies through which the producers reach it, which may lose replies.
    """

    held: int
    options: Mapping[str, Any]
    publishers_links: Sequence[Proxy]

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    @property
    def broker_addresses(self) -> Addresses:
        """Where it is."""

    def heal(self) -> None:
        """Have the proxies harm nothing any more."""

    def tasks_left(self) -> set[str]:
        """Return the ids of the tasks that it still has, as far as it says."""


class Servers(NamedTuple):
    """The store and the broker, which may be the same."""

    store: Store
    broker: Broker

    @contextlib.contextmanager
    def running(self):
        """Start them; stop them at the end."""
        with contextlib.ExitStack() as stack:
            for each in {id(each): each for each in self}.values():
                stack.enter_context(each)
            yield self


def rewrite_files(clients: Iterable[redis.Redis]) -> None:
    """Have servers rewrite their append-only files, so that they start quickly."""
    for client in clients:
        with contextlib.suppress(redis.RedisError):  # it is being rewritten, say
            client.bgrewriteaof()
