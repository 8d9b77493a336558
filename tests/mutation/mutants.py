"""A mutant: a file of the library with one small change that a test ought to notice."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: The file's path below ``src/celery_segment``.
        operator: What kind of change it is.
        original: The text of the whole file.
        changed: The text of the whole file with the change.
    """

    path: str
    operator: str
    original: str
    changed: str

    @property
    def line(self) -> int:
        """The number of the first line that differs."""
        pairs = zip(self.original.splitlines(), self.changed.splitlines(), strict=False)
        return next((n for n, (old, new) in enumerate(pairs, 1) if old != new), 1)

    @property
    def before(self) -> str:
        """The lines that are changed, joined: a name for the place that lasts when it moves."""
        return self._side("-")

    @property
    def after(self) -> str:
        """What the lines become, joined."""
        return self._side("+")

    @property
    def diff(self) -> str:
        """The change, with the lines around it."""
        old, new = self.original.splitlines(), self.changed.splitlines()
        lines = [*difflib.unified_diff(old, new, lineterm="", n=2)][2:]
        return "\n".join(lines)

    def _side(self, sign: str) -> str:
        old, new = self.original.splitlines(), self.changed.splitlines()
        lines = [*difflib.unified_diff(old, new, lineterm="", n=0)][2:]
        return " ".join(line[1:].strip() for line in lines if line.startswith(sign))
