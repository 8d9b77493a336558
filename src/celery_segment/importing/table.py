"""CSV: each record is a message, and the columns are its fields. No I/O."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from celery_segment import messages
from celery_segment.errors import ImportRefused, ValidationError
from celery_segment.importing.ids import NextId
from celery_segment.importing.lines import MAX_LINE_BYTES, Line, text_of
from celery_segment.importing.names import ADDED_BY_SEGMENT, WIRE_NAMES, message_of

__all__ = ["CSV"]

#: Fields that are objects, and whether their cells may be numbers: in others, 1.10 is a version.
_OBJECTS = {"properties": True, "traits": True, "context": False, "integrations": False}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
#: Number of digits that a float keeps, and so does JavaScript.
_DIGITS = 15


class _Column(NamedTuple):
    """A column: the path of its field, and the function that converts a cell."""

    path: tuple[str, ...]
    value: Callable[[str], Any]


class CSV:
    """Reads messages from the records below a header.

    Args:
        lines: The lines of the file, the header first.
        default_type: The type of records that have none.
        texts: Columns whose cells are always strings.

    Raises:
        ImportRefused: A column is not a field of a message.
    """

    def __init__(
        self, lines: Iterable[Line], default_type: str | None, texts: Collection[str] = ()
    ) -> None:
        self._lines = iter(lines)
        self._ahead: deque[Line] = deque()
        self._default_type = default_type
        header = self._next()
        try:
            names = text_of(header[2]).rstrip("\r\n") if header else ""
            self._columns = _columns(_cells(names), texts) if names else []
        except ValidationError as error:
            raise ImportRefused(f"the header {error.problem}") from None
        self.scope = (default_type or "", names)

    def __iter__(self) -> Iterator[Line]:
        while line := self._next():
            yield self._record(line) if line[2].count(b'"') % 2 else line

    def parse(self, record: bytes, next_id: NextId) -> messages.Message:
        """Return the message of a record; ``next_id`` returns its id if it has none.

        Raises:
            ValidationError: The record is rejected.
        """
        cells = _cells(text_of(record).rstrip("\r\n"))
        if len(cells) != len(self._columns):
            problem = f"has {len(cells)} cells and the header {len(self._columns)}"
            raise ValidationError("", problem)
        fields: dict[str, Any] = {}
        for column, cell in zip(self._columns, cells, strict=True):
            if cell and column is not None:
                target = fields
                for name in column.path[:-1]:
                    target = target.setdefault(name, {})
                target[column.path[-1]] = column.value(cell)
        return message_of(fields, self._default_type, lambda: next_id(record))

    def _next(self) -> Line | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def _record(self, line: Line) -> Line:
        """Return the record that begins in a line with an open quote.

        If no record does, the quote is a mistake, and only this line is rejected.
        """
        number, _, content = line
        taken = []
        while len(content) <= MAX_LINE_BYTES and (more := self._next()):
            taken.append(more)
            content += more[2]
            if more[2].count(b'"') % 2:
                if self._is_record(content):
                    return number, more[1], content
                break
        self._ahead.extendleft(reversed(taken))
        return line

    def _is_record(self, content: bytes) -> bool:
        try:
            return len(_cells(text_of(content))) == len(self._columns)
        except ValidationError:
            return False


def _cells(record: str) -> list[str]:
    try:
        return next(csv.reader([record], strict=True))
    except csv.Error as error:
        raise ValidationError("", f"is not CSV: {error}") from None


# ---------------------------------------------------------------- columns


def _columns(names: list[str], texts: Collection[str]) -> list[_Column | None]:
    """Return the columns of a header; None for a column that is ignored."""
    names = [name.strip() for name in names]
    if unknown := set(texts).difference(names):
        raise ImportRefused(f"there is no column {min(unknown)!r}")
    columns: list[_Column | None] = []
    whole: set[tuple[str, ...]] = set()
    parts: set[tuple[str, ...]] = set()
    for name in names:
        path = _path(name)
        if path is None:
            columns.append(None)
            continue
        outer = {path[:n] for n in range(1, len(path))}
        if path in whole | parts or outer & whole:
            raise ImportRefused(f"column {name!r} appears twice, or is part of another")
        whole.add(path)
        parts |= outer
        columns.append(_Column(path, _reader(path, is_text=name in texts)))
    return columns


def _path(name: str) -> tuple[str, ...] | None:
    """Return the path of a column in a message; None if the column is ignored."""
    field, *inner = name.split(".")
    if field in ADDED_BY_SEGMENT:
        return None
    if field in WIRE_NAMES and all(inner) and (not inner or field in _OBJECTS):
        return (WIRE_NAMES[field], *inner)
    raise ImportRefused(
        f"column {name!r} is not a field of a message",
        hint="rename it to a field such as event, userId or properties.revenue, or remove it",
    )


def _reader(path: tuple[str, ...], *, is_text: bool) -> Callable[[str], Any]:
    field, *inner = path
    if field not in _OBJECTS or is_text:
        return str
    if not inner:
        return lambda cell: _object(field, cell)
    return _number_or_boolean if _OBJECTS[field] else _boolean


def _object(field: str, cell: str) -> dict[str, Any]:
    try:
        return messages.decode(cell.encode())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValidationError(field, f"is not a JSON object: {error}") from None


def _boolean(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell, cell)


def _number_or_boolean(cell: str) -> float | bool | str:
    if _NUMBER.fullmatch(cell) and sum(map(str.isdigit, cell)) <= _DIGITS:
        return float(cell) if "." in cell else int(cell)
    return _boolean(cell)
