"""What authorizes a request: the write key, or a token of OAuth beside it. No I/O."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from celery_segment.config import WriteKey

__all__ = ["Authorization", "by_token", "by_write_key"]


@dataclass(frozen=True, slots=True)
class Authorization:
    """What authorizes a request. Its ``repr`` shows nothing of it.

    Attributes:
        header: The header ``Authorization``.
        members: Further members of the body's JSON object, each with a comma before it.
        secrets: The texts that an answer must not quote.
    """

    header: str = field(repr=False)
    members: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def by_write_key(write_key: WriteKey) -> Authorization:
    """Return HTTP Basic authentication: the write key is the user, the password is empty."""
    key = write_key.reveal()
    login = base64.b64encode(f"{key}:".encode()).decode()
    return Authorization(f"Basic {login}", secrets=(key, login))


def by_token(token: str, write_key: WriteKey) -> Authorization:
    """Return the authorization by a token; the write key in the body names the source."""
    key = write_key.reveal()
    members = b',"writeKey":' + json.dumps(key).encode()
    return Authorization(f"Bearer {token}", members, (token, key))
