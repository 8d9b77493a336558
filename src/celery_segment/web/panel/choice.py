"""Which dead letters of a source a visitor means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from werkzeug.exceptions import BadRequest

from celery_segment.buffer import DeadLetter
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.times import time_of
from celery_segment.text import one_line
from celery_segment.web.visit import Visit

__all__ = ["Choice"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Some dead letters: those of the given ids, or all that match the filters.

    Attributes:
        batches: Their ids; none for all that match.
        is_all: Whether all that match are meant. Without it, and without ids, none is.
        group: The id of their group.
        reason: A text that the reason contains.
        since: Since when, as the visitor gives it.
        until: Until when.
    """

    batches: tuple[str, ...] = ()
    is_all: bool = False
    group: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None

    @classmethod
    def of(cls, visit: Visit) -> Choice:
        """Read it from the query, or from the form.

        Raises:
            BadRequest: A time is neither a time nor an age.
        """
        # A reason is stored as one line.
        given = {name: visit.argument(name) for name in ("group", "reason", "since", "until")}
        filters = {name: text and one_line(text) for name, text in given.items()}
        choice = cls(
            tuple(visit.request.values.getlist("batch")),
            visit.argument("all") is not None,
            **filters,
        )
        choice.filters()
        return choice

    @property
    def is_empty(self) -> bool:
        """Whether no dead letter was chosen."""
        return not (self.batches or self.is_all)

    @property
    def is_filtered(self) -> bool:
        """Whether not all dead letters of the source match."""
        return any((self.group, self.reason, self.since, self.until))

    def query(self) -> dict[str, Any]:
        """Return the filters as a query has them."""
        names = ("group", "reason", "since", "until")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def fields(self) -> list[tuple[str, str]]:
        """Return all of it as the fields of a form have it."""
        batches = [("batch", batch) for batch in self.batches]
        return [*batches, *([("all", "1")] if self.is_all else []), *self.query().items()]

    def filters(self) -> dict[str, Any]:
        """Return the filters as ``DeadLetters`` takes them.

        Raises:
            BadRequest: A time is neither a time nor an age.
        """
        try:
            times = {n: t and time_of(t) for n, t in (("since", self.since), ("until", self.until))}
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return {"group": self.group, "reason": self.reason, **times}

    def fixed(self, last: float | None) -> Choice:
        """Return the same of what is a dead letter now: without those to come.

        Args:
            last: When the last dead letter was given up, in seconds since the epoch.
        """
        filters = self.filters()
        ends = [each for each in (filters["until"], (last or 0.0) + 0.001) if each is not None]
        since = None if filters["since"] is None else _iso(filters["since"])
        return replace(self, since=since, until=_iso(min(ends)))

    def letters(self, letters: DeadLetters) -> Iterator[DeadLetter]:
        """Iterate over the dead letters that were chosen, the oldest first; not those by id."""
        return letters.select(**self.filters())


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
