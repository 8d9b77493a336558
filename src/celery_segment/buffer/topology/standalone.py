"""One Redis server, always at the same address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery_segment.buffer.address import address_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.scripts import Script
from celery_segment.buffer.topology.routing import Limits

__all__ = ["Standalone"]


class Standalone:
    """One server, which has all keys."""

    kind = "standalone"

    def __init__(self, url: str, options: Mapping[str, Any], limits: Limits) -> None:
        address = address_of(url, options, limits.waits)
        self._pool = limits.pool(address)
        self.database, self.waits = address.database, limits.waits

    def __repr__(self) -> str:
        return f"Standalone({self.address!r})"

    @property
    def address(self) -> str:
        """The server's address."""
        return self._pool.address

    def server(self, key: str) -> Pool:  # noqa: ARG002 - it has all keys
        """Return the connections to the server."""
        return self._pool

    def servers(self) -> Sequence[Pool]:
        """Return the connections to the server."""
        return [self._pool]

    def run_each(self, script: Script, commands: Mapping[str, bytes]) -> dict[str, Any]:
        """Send encoded calls of a script in one round trip."""
        replies = self._pool.run_all(script, list(commands.values())) if commands else []
        return dict(zip(commands, replies, strict=True))

    def set_timeout(self, timeout: float) -> None:
        """Change the timeout."""
        self._pool.set_timeout(timeout)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
