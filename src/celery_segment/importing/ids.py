"""The messageIds of records that have none. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

__all__ = ["Ids", "NextId"]

#: Function that returns the id of a record.
NextId = Callable[[bytes], str]


class Ids:
    """Derives messageIds from lines, so that a line has the same id in every file and run.

    Equal lines in one file remain separate messages: the id of the second ends with ``-2``,
    of the third with ``-3``. To recognize them, every line without an id has to be passed
    to ``next``, from the first on, and takes 9 bytes of memory.

    Args:
        scope: Everything that the meaning of a line depends on, besides the line itself.
    """

    def __init__(self, *scope: str) -> None:
        self._scope = blake2b("\0".join(scope).encode(), digest_size=16)
        # The next eight bytes of each digest, appended to those that begin with the same two.
        # A match across two neighbours is a false one: one "-2" too many in 10^15 lines.
        self._seen = [bytearray() for _ in range(1 << 16)]
        self._repeated: dict[bytes, int] = {}

    def next(self, line: bytes) -> str:
        """Return the id of the next line without one."""
        made = self._scope.copy()
        made.update(line.rstrip(b"\r\n"))
        digest = made.digest()
        seen, rest = self._seen[digest[0] << 8 | digest[1]], digest[2:10]
        if rest not in seen:
            seen += rest
            return f"import-{digest.hex()}"
        number = self._repeated[digest] = self._repeated.get(digest, 1) + 1
        return f"import-{digest.hex()}-{number}"
