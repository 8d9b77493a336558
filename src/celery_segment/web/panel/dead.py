"""The pages of the dead letters: their groups and a page of them; and one with its messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.wrappers import Response

from celery_segment.buffer import DeadLetter
from celery_segment.errors import SegmentBufferError
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.reading import read_figures
from celery_segment.web.panel.choice import Choice
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["export", "show", "show_letter"]

#: The dead letters on a page, the groups that are shown at first, and the messages of a letter.
LETTERS, GROUPS, MESSAGES = 50, 20, 50


def show(panel: Panel, visit: Visit, name: str) -> Page:
    """Show the dead letters of a source: their groups, and those that match."""
    choice, letters = Choice.of(visit), panel.source(name).dead_letters
    figures = read_figures(panel.admin(name), name)
    groups = letters.groups()
    try:
        page = letters.page(visit.argument("after"), limit=LETTERS, **choice.filters())
    except ValueError as error:
        raise BadRequest(str(error)) from None
    values = {
        "name": name,
        "figures": figures,
        "groups": groups if visit.argument("groups") == "all" else groups[:GROUPS],
        "group_count": len(groups),
        "group": next((each for each in groups if each.id == choice.group), None),
        "choice": choice,
        "page": page,
        "is_first": visit.argument("after") is None,
    }
    return Page("panel/dead.html", f"Dead letters · {name}", values)


def show_letter(panel: Panel, visit: Visit, name: str, batch: str) -> Page:  # noqa: ARG001
    """Show a dead letter with its messages.

    Raises:
        NotFound: It is none, or none any more.
    """
    letters = panel.source(name).dead_letters
    read_figures(panel.admin(name), name)
    letter = letters.get(batch)
    if letter is None:
        raise NotFound(
            f"There is no dead letter {batch!r} of {name!r}: it may have been replayed or purged."
        )
    messages, problem = _messages(letters, batch)
    values = {
        "name": name,
        "letter": letter,
        "samples": [_sample(data) for data in messages[:MESSAGES]],
        "problem": problem,
    }
    return Page("panel/letter.html", f"Dead letter {batch} · {name}", values)


def export(panel: Panel, visit: Visit, name: str) -> Response:
    """Send the chosen dead letters as a file: a message per line."""
    choice, letters = Choice.of(visit), panel.source(name).dead_letters
    if choice.is_empty:
        raise BadRequest("Choose the dead letters to export first.")
    last = read_figures(panel.admin(name), name).dead
    found = _found(letters, choice) if last.messages else iter(())
    response = Response(letters.lines(found), mimetype="application/x-ndjson")
    response.headers.set("Content-Disposition", "attachment", filename=f"dead-{name}.ndjson")
    return response


def _found(letters: DeadLetters, choice: Choice) -> Iterator[DeadLetter]:
    if not choice.batches:
        return choice.letters(letters)
    return (each for each in map(letters.get, choice.batches) if each is not None)


def _messages(letters: DeadLetters, batch: str) -> tuple[list[bytes], str]:
    """Return a dead letter's messages, or why they cannot be read."""
    try:
        return letters.raw(batch), ""
    except SegmentBufferError as error:
        return [], str(error)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A message of a dead letter.

    Attributes:
        kind: What it is: "track Order Completed".
        user: Whose it is.
        data: It, as JSON.
    """

    kind: str
    user: str = field(repr=False)
    data: bytes = field(repr=False)


def _sample(data: bytes) -> _Sample:
    message = _decoded(data)
    kind = (message.get(each) for each in ("type", "event", "name"))
    user = message.get("userId") or message.get("anonymousId") or ""
    return _Sample(" ".join(str(each) for each in kind if each), str(user), data)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
