"""What the rest of the buffer knows of its servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celery_segment.aio.waits import Waits
from celery_segment.buffer.scripts import Script
from celery_segment.errors import SegmentBufferError

__all__ = ["Server", "Topology"]


class Server(Protocol):
    """The server that has certain keys. ``Pool`` says what the methods do."""

    @property
    def address(self) -> str:
        """The server's address, for people."""

    def run(
        self, script: Script, key: str, *arguments: str | bytes | float, once: bool = False
    ) -> Any:
        """Run a script on one key and return its reply."""

    def send(self, script: Script, command: bytes, *, once: bool = False) -> Any:
        """Send an encoded call of a script and return its reply."""

    def send_and_wait(
        self, script: Script, command: bytes, replicas: int, *, once: bool = False
    ) -> tuple[Any, int]:
        """Send an encoded call of a script, and wait until replicas have what it wrote."""

    def run_and_get(self, script: Script, command: bytes, key: str) -> tuple[list[int], Any]:
        """Send an encoded call that returns integers, and get a key's content."""

    def execute(self, *arguments: str | bytes | float, once: bool = False) -> Any:
        """Run a plain command and return its reply."""


class Topology(Protocol):
    """One Redis server, or several of which each has some of the keys."""

    @property
    def address(self) -> str:
        """Where the servers are, for people."""

    @property
    def database(self) -> int:
        """The number of the database."""

    @property
    def waits(self) -> Waits:
        """How those wait who use it."""

    @property
    def kind(self) -> str:
        """What it is, for people: "standalone", "Sentinel" or "Cluster"."""

    def server(self, key: str) -> Server:
        """Return what sends commands to the server that has a key, wherever that is."""

    def servers(self) -> Sequence[Server]:
        """Return one for each server that has keys.

        Raises:
            BufferUnavailable: It cannot be found out which these are.
        """

    def run_each(
        self, script: Script, commands: Mapping[str, bytes]
    ) -> dict[str, Any | SegmentBufferError]:
        """Send encoded calls of a script, each to the server that has its key.

        Args:
            script: The script.
            commands: The calls, by key.

        Returns:
            The reply of each, by key; a ``SegmentBufferError`` where it is one.

        Raises:
            SegmentBufferError: None could be sent.
        """

    def set_timeout(self, timeout: float) -> None:
        """Change the timeout, in seconds; connections that are idle are closed."""

    def close(self) -> None:
        """Close the idle connections, and those in use after their present command."""
