"""Choose dead letters by reason, time and group, and turn their pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from celery_segment.buffer import UNGROUPED, DeadLetter
from celery_segment.operations.admin import SourceAdmin

__all__ = ["Chosen", "DeadLetterPage", "When", "page_of"]

#: Number of dead letters that are listed in one round trip, and looked at for one page.
PAGE, LOOKED_AT = 100, 1_000

When = datetime | float


class DeadLetterPage(NamedTuple):
    """Some of the dead letters.

    Attributes:
        letters: The letters. There may be none of them on a page that is not the last one.
        next: What the next page is asked for with; None where there is none.
    """

    letters: list[DeadLetter]
    next: str | None


class Chosen(NamedTuple):
    """Which dead letters are chosen; what is None chooses all.

    Attributes:
        reason: A text that the reason contains, ignoring case.
        since: The earliest time at which they became dead letters.
        until: The time before which they became dead letters.
        group: The id of their group.
    """

    reason: str | None = None
    since: When | None = None
    until: When | None = None
    group: str | None = None

    def read(
        self,
        admin: SourceAdmin,
        after: DeadLetter | None = None,
        *,
        limit: int = PAGE,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return letters in the chosen time and group: some of them may not be wanted.

        Raises:
            ValueError: The group's id is empty.
        """
        if self.group == "":
            raise ValueError("group must be the id of a group, or None for all dead letters")
        return admin.dead_letters(
            after,
            since=_seconds(self.since),
            until=_seconds(self.until),
            limit=limit,
            group=None if self.group == UNGROUPED else self.group,
            newest_first=newest_first,
        )

    def read_all(self, admin: SourceAdmin) -> Iterator[DeadLetter]:
        """Iterate over the chosen letters, the oldest first."""
        letter: DeadLetter | None = None
        while page := self.read(admin, letter):
            for letter in page:
                if self.wants(letter):
                    yield letter

    def wants(self, letter: DeadLetter) -> bool:
        """Return whether a letter in the chosen time and group is chosen."""
        if self.group == UNGROUPED and letter.kinds:
            return False
        return (self.reason or "").casefold() in letter.reason.casefold()

    def before(self, moment: float) -> Chosen:
        """Return the same, but for what became a dead letter at a time or later."""
        until = _seconds(self.until)
        return self._replace(until=moment if until is None else min(until, moment))


def page_of(
    admin: SourceAdmin, chosen: Chosen, after: str | None, limit: int, *, newest_first: bool
) -> DeadLetterPage:
    """Return a page of the chosen letters.

    Raises:
        ValueError: ``after`` is not that of a page, or the limit is below 1.
    """
    if limit < 1:
        raise ValueError("limit must be 1 or more")
    letters: list[DeadLetter] = []
    last, looked_at = None if after is None else _parse(after), 0
    while looked_at < LOOKED_AT:
        page = chosen.read(admin, last, limit=PAGE, newest_first=newest_first)
        for letter in page:
            if len(letters) == limit:
                return DeadLetterPage(letters, _cursor(last))
            last = letter
            letters += [letter] if chosen.wants(letter) else []
        looked_at += len(page)
        if len(page) < PAGE:
            return DeadLetterPage(letters, None)
    return DeadLetterPage(letters, _cursor(last))


def _cursor(last: DeadLetter | None) -> str | None:
    return None if last is None else f"{round(last.buried * 1000)}-{last.id}"


def _parse(cursor: str) -> DeadLetter:
    buried, mark, batch_id = cursor.partition("-")
    if not (mark and batch_id and buried.isdecimal() and len(buried) < len(str(2**53))):
        raise ValueError("after must be the `next` of a page, or None for the first page")
    return DeadLetter(batch_id, 0, 0, int(buried) / 1000, "")


def _seconds(when: When | None) -> float | None:
    return when.timestamp() if isinstance(when, datetime) else when
