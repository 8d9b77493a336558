"""Name the sources of write keys, without showing a key."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from hashlib import sha256

__all__ = ["NO_KEY", "UNKNOWN_KEY", "KeyNames"]

NO_KEY, UNKNOWN_KEY = "no key", "unknown key"
#: Keys that are numbered where no names are known.
_NUMBERED = 100


class KeyNames:
    """Returns the names of write keys' sources. It keeps the keys' digests only.

    Args:
        names: The names of the sources by their keys; None where none are known: then the keys
            are numbered as they come.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = {_digest(key): name for key, name in (names or {}).items()}
        self._numbered = names is None
        self._lock = threading.Lock()

    def __call__(self, key: str | None) -> str:
        """Return the name of a key's source."""
        if not key:
            return NO_KEY
        digest = _digest(key)
        with self._lock:
            if self._numbered and len(self._names) < _NUMBERED:
                self._names.setdefault(digest, f"key {len(self._names) + 1}")
            return self._names.get(digest, UNKNOWN_KEY)


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()
