"""What the producers wrote down: calls that returned, raised, were refused, or were slow."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Call(NamedTuple):
    """A call that was slow, or raised.

    Attributes:
        producer: Its process.
        began: When, by ``time.monotonic()``.
        seconds: How long it took.
        error: What it raised, and its text; "-" if it returned.
    """

    producer: str
    began: float
    seconds: float
    error: str


@dataclass
class Books:
    """What the producers wrote down.

    Attributes:
        attempted: messageIds of calls that began.
        accepted: Of those that returned.
        raised: Of those that raised at least once.
        refused: Of those that were refused because the buffer, or the disk, was full, and
            raised no other error.
        errors: How often a call raised, by error.
        slowest: The longest call that returned, and that raised, in seconds.
        calls: Those that were slow, or raised.
        unknown: How many messages were spilled that Redis may have stored as well.
    """

    attempted: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    raised: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    unknown: int = 0

    @classmethod
    def read(cls, folder: Path) -> Books:
        books = cls()
        for path in sorted(folder.glob("producer-*.book")):
            books._read_calls(path)
        books.refused -= books.raised
        for path in folder.glob("producer-*.calls"):
            producer = path.stem.removeprefix("producer-")
            for line in path.read_text().splitlines():
                began, seconds, error = line.split(" ", 2)
                books.calls.append(Call(producer, float(began), float(seconds), error))
        for path in folder.glob("producer-*.json"):
            figures = json.loads(path.read_text())
            books.unknown += figures["unknown"]
            for outcome, seconds in figures["slowest"].items():
                books.slowest[outcome] = max(books.slowest.get(outcome, 0.0), seconds)
        return books

    def _read_calls(self, path: Path) -> None:
        sets = {"?": self.attempted, "+": self.accepted, "!": self.raised, "-": self.refused}
        for line in path.read_text().splitlines():
            mark, message_id, *error = line.split(" ", 2)
            if mark == "!":
                self.errors.update(error)
            sets[mark].add(message_id)
