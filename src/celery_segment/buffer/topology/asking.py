"""Ask a server, over a connection of its own, where others are."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from hiredis import ProtocolError

from celery_segment.buffer.address import Address
from celery_segment.buffer.connection import Connection
from celery_segment.buffer.scripts import encode_command

__all__ = ["ask"]


def ask(server: Address, seconds: float, *command: str) -> Any:
    """Return the answer of a server to one command.

    Args:
        server: The server.
        seconds: How long to wait for the connection, and for the answer.
        *command: The command.

    Raises:
        OSError: It did not answer, or with an error; the text says which.
    """
    from redis import RedisError

    try:
        with closing(Connection(server.connection(seconds / 2))) as connection:
            answer = connection.exchange(encode_command(*command))
    except (RedisError, ValueError, ProtocolError) as error:
        raise OSError(str(error)) from None
    if isinstance(answer, Exception):
        raise OSError(str(answer))
    return answer
