"""The messageId of a line that has none. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

__all__ = ["Ids", "NextId"]

#: Makes the id of a record.
NextId = Callable[[bytes], str]


class Ids:
    """Derives messageIds from lines: the same line has the same id, in whatever file and run.

    Of equal lines of one file the second has ``-2`` behind its id, the third ``-3``: they
    stay as many as they are. So all of them have to come by, from the first on. To know those
    that did takes 9 bytes for each.

    Args:
        scope: What the meaning of a line depends on, besides itself.
    """

    def __init__(self, *scope: str) -> None:
        self._scope = blake2b("\0".join(scope).encode(), digest_size=16)
        # Eight bytes of each digest, in a row with those that begin with the same two. Some
        # may be found across two neighbours, once in 10^15 lines: one "-2" too many.
        self._seen = [bytearray() for _ in range(1 << 16)]
        self._repeated: dict[bytes, int] = {}

    def next(self, line: bytes) -> str:
        """Return the id of the next line that has none."""
        made = self._scope.copy()
        made.update(line.rstrip(b"\r\n"))
        digest = made.digest()
        seen, rest = self._seen[digest[0] << 8 | digest[1]], digest[2:10]
        if rest not in seen:
            seen += rest
            return f"import-{digest.hex()}"
        number = self._repeated[digest] = self._repeated.get(digest, 1) + 1
        return f"import-{digest.hex()}-{number}"
