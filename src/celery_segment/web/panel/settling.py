"""Replay and purge dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from celery_segment.buffer import DeadLetter
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.reading import read_figures
from celery_segment.text import counted
from celery_segment.web.panel.choice import Choice
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Done, Page, Visit

__all__ = ["purge", "replay"]

#: Seconds that an action may take, and that counting what would be purged may.
PATIENCE, COUNT = 20.0, 5.0
#: Dead letters between two looks at the clock.
PART = 500


def replay(panel: Panel, visit: Visit, name: str) -> Done:
    """Have the chosen dead letters delivered again."""
    choice, letters = Choice.of(visit), panel.source(name).dead_letters
    read_figures(panel.admin(name), name)
    if choice.is_empty:
        return _nothing(visit, name)
    return _done(visit, name, "Replayed", _settle(letters.replay, _ids(letters, choice)))


def purge(panel: Panel, visit: Visit, name: str) -> Done | Page:
    """Delete the chosen dead letters, once the visitor has seen how many these are."""
    choice, letters = Choice.of(visit), panel.source(name).dead_letters
    if choice.is_empty:
        return _nothing(visit, name)
    if visit.argument("confirmed") is None:
        return _confirm(panel, name, choice, letters)
    return _done(visit, name, "Purged", _settle(letters.purge, _ids(letters, choice)))


@dataclass(frozen=True, slots=True)
class _Count:
    """What was settled, or would be.

    Attributes:
        messages: Their number.
        letters: The number of dead letters that hold them.
        is_complete: Whether that is all; otherwise the time was up.
    """

    messages: int
    letters: int
    is_complete: bool = True


def _confirm(panel: Panel, name: str, choice: Choice, letters: DeadLetters) -> Page:
    """Ask whether to delete what is chosen: what is given up from now on is not."""
    admin = panel.admin(name)
    dead, is_whole = read_figures(admin, name).dead, choice.is_all and not choice.is_filtered
    if choice.is_all:
        choice = choice.fixed(admin.last_buried())
    if is_whole:
        count = _Count(dead.messages, dead.batches)
    elif choice.is_all:
        count = _count(choice.letters(letters))
    else:
        count = _count(each for each in map(letters.get, choice.batches) if each is not None)
    values = {"name": name, "choice": choice, "count": count}
    return Page("panel/purge.html", f"Purge · {name}", values)


def _count(letters: Iterable[DeadLetter]) -> _Count:
    messages, number, until = 0, 0, time.monotonic() + COUNT
    for letter in letters:
        messages, number = messages + letter.messages, number + 1
        if number % PART == 0 and time.monotonic() > until:
            return _Count(messages, number, is_complete=False)
    return _Count(messages, number)


def _ids(letters: DeadLetters, choice: Choice) -> Iterator[str]:
    if choice.batches:
        return iter(choice.batches)
    return (letter.id for letter in choice.letters(letters))


def _settle(act: Callable[[list[str]], int], ids: Iterator[str]) -> _Count:
    """Act on dead letters, as many as the time allows."""
    messages, number, until = 0, 0, time.monotonic() + PATIENCE
    while part := list(islice(ids, PART)):
        messages, number = messages + act(part), number + len(part)
        if time.monotonic() > until and next(ids, None) is not None:
            return _Count(messages, number, is_complete=False)
    return _Count(messages, number)


def _done(visit: Visit, name: str, what: str, count: _Count) -> Done:
    text = f"{what} {counted(count.messages, 'message')}."
    if not count.messages:
        text = "Nothing was changed: there is no such dead letter any more."
    elif not count.is_complete:
        text = f"{text} This took as long as a page may, and more match: do it again."
    return Done(text, visit.url("dead", name=name), name, failed=not count.is_complete)


def _nothing(visit: Visit, name: str) -> Done:
    to = visit.url("dead", name=name)
    return Done("Nothing was changed: choose dead letters first.", to, name, failed=True)
