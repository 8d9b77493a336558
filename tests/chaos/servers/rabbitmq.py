"""RabbitMQ behind addresses that stay: the broker."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from chaos.proxy import Proxy
from chaos.servers.base import Addresses
from rabbit import Rabbit


class RabbitMQ:
    """The node, and the proxies to it.

    Attributes:
        is_away: Whether it is stopped at present.
    """

    #: What a consumer has not acknowledged is delivered to another one.
    held = 0
    options: ClassVar[dict[str, Any]] = {"confirm_publish": True}
    #: None of them is muted: py-amqp waits for a confirmation without a bound.
    publishers_links: tuple[Proxy, ...] = ()

    def __init__(self) -> None:
        self._node = Rabbit()
        self.is_away = False
        self._links: list[Proxy] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._node)
            port = self._node.port
            self._links = [stack.enter_context(Proxy(port)) for _ in range(4)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def broker_addresses(self) -> Addresses:
        producers, stage, *workers = (self._node.url_at(link.port) for link in self._links)
        return Addresses(producers, workers, stage)

    def heal(self) -> None:
        """Do nothing: what was cut off is closed."""

    def cut(self) -> None:
        """Close all connections."""
        for link in self._links:
            link.close()
            link.open(self._node.port)

    def stop(self) -> None:
        """Stop the node, as for an upgrade."""
        self.is_away = True
        self._node.stop()

    def start(self) -> None:
        self._node.restart()
        self.is_away = False

    def tasks_left(self) -> set[str]:
        """Return none: RabbitMQ shows no messages without delivering them."""
        return set()
