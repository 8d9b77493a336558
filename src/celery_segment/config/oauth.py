"""The credentials of OAuth 2.0, with which a source's requests are authorized by a token."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery_segment.config.parsers import PrivateKey, host, is_loopback

__all__ = ["OAuth", "oauth", "read_key"]

SCOPE = "tracking_api:write"
#: Segment's authorization servers, of its regions; and the hosts of its API in the EU.
US_SERVER = "https://oauth2.segment.io"
EU_SERVER = "https://oauth2.eu1.segmentapis.com"
_EU_HOST = re.compile(r"([a-z0-9-]+\.)?eu1\.([a-z0-9-]+\.)?segmentapis\.com")
_PEM = "-----BEGIN "
_EXAMPLE = '{"client_id": "...", "private_key": "/path/to/key.pem", "key_id": "..."}'


@dataclass(frozen=True)
class OAuth:
    """An OAuth application of a Segment workspace, and one of its keys.

    Attributes:
        client_id: The id of the application.
        private_key: The key that signs: a PEM text, or the path of a file that has it.
        key_id: The id that Segment gave to the key.
        auth_server: The URL of the authorization server; None for that of the host's region.
        scope: What the token is for.
    """

    client_id: str
    private_key: PrivateKey = field(repr=False)
    key_id: str
    auth_server: str | None = None
    scope: str = SCOPE

    def server_of(self, api: str) -> str:
        """Return the authorization server for the host of an API."""
        if self.auth_server is not None:
            return self.auth_server
        return EU_SERVER if _EU_HOST.fullmatch(urlsplit(api).hostname or "") else US_SERVER


def oauth(value: Any) -> OAuth:
    """Parse the credentials of OAuth.

    The key itself is read by whoever signs with it: a process that only makes calls needs neither
    the file nor the library.
    """
    if isinstance(value, OAuth):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping such as {_EXAMPLE}")
    known = [each.name for each in fields(OAuth)]
    unknown = [name for name in value if name not in known]
    if unknown:
        name = repr(unknown[0]) if str(unknown[0]).isidentifier() else "another field"
        raise ValueError(f"must be a mapping of {', '.join(known)}, and has {name}")
    return OAuth(
        client_id=_text(value, "client_id"),
        private_key=_private_key(value.get("private_key")),
        key_id=_text(value, "key_id"),
        auth_server=_server(value.get("auth_server")),
        scope=_text({"scope": SCOPE, **value}, "scope"),
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise ValueError(f"must be a mapping with {name}, a non-empty string")
    return text.strip()


def _private_key(value: Any) -> PrivateKey:
    if isinstance(value, PrivateKey):
        return value
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            "must be a mapping with private_key, a key as PEM text or the path of its file"
        )
    return PrivateKey(text.strip())


def _server(value: Any) -> str | None:
    if value is None:
        return None
    try:
        server = host(value).removesuffix("/token")
    except ValueError as error:
        raise ValueError(f"must be a mapping whose auth_server {error}") from None
    url = urlsplit(server)
    if url.scheme != "https" and not is_loopback(url.hostname):
        raise ValueError("must be a mapping whose auth_server is an https URL")
    return server


def read_key(key: PrivateKey) -> bytes:
    """Return a private key as PEM, from its file where its path is given.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no path.
    """
    text = key.reveal()
    return text.encode() if _PEM in text else Path(text).read_bytes()
