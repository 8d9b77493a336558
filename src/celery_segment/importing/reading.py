"""Records become chunks: the bytes of their messages, and what was rejected. No I/O of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from celery_segment import messages
from celery_segment.errors import ImportRefused, ValidationError
from celery_segment.importing.ids import Ids, NextId
from celery_segment.importing.lines import Line

__all__ = ["START", "Chunk", "Format", "Position", "Rejected", "chunks"]

#: A chunk ends with the record that reaches one of these.
CHUNK_RECORDS = 10_000
CHUNK_BYTES = 4_000_000


Parse = Callable[[bytes, NextId], messages.Message]
Encode = Callable[[messages.Message], bytes | None]


class Format(Protocol):
    """A file's records, and how one is read."""

    @property
    def scope(self) -> Iterable[str]:
        """What the meaning of a record depends on, besides itself."""

    def __iter__(self) -> Iterator[Line]:
        """Go through the records, blank lines among them."""

    def parse(self, record: bytes, next_id: NextId, /) -> messages.Message:
        """Return a record's message; ``next_id`` is called for one that has no id.

        Raises:
            ValidationError: The record is refused.
        """


class Position(msgspec.Struct, frozen=True):
    """A place in a file: the last record before it, by its line and its digest."""

    line: int = 0
    offset: int = 0
    digest: str = ""

    @classmethod
    def of(cls, line: int, offset: int, record: bytes) -> Position:
        """Return the place behind a record."""
        return cls(line, offset, blake2b(record, digest_size=16).hexdigest())


START = Position()


class Rejected(NamedTuple):
    """A record that was refused: which field of it, and why."""

    line: int
    field: str
    reason: str
    content: bytes


@dataclass
class Chunk:
    """Some records in a row: what became of them, and where the last one ends."""

    messages: list[bytes] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    dropped: int = 0
    end: Position = START


def chunks(source: str, records: Format, encode: Encode, after: Position) -> Iterator[Chunk]:
    """Read a file's records on from a position.

    Args:
        source: The source's name.
        records: The records.
        encode: Returns a message as it will be stored; None where it is dropped.
        after: The position.

    Raises:
        ImportRefused: The position is none of this file.
    """
    parse, next_id = records.parse, Ids(source, *records.scope).next
    rest = iter(records)
    _pass_over(rest, parse, next_id, after)
    chunk, left, room = Chunk(), CHUNK_RECORDS, CHUNK_BYTES
    for line, end, record in rest:
        try:
            data = encode(parse(record, next_id))
        except ValidationError as error:
            if record.isspace():
                continue
            chunk.rejected.append(
                Rejected(line, error.field, error.problem, record.rstrip(b"\r\n"))
            )
        except Exception as error:  # noqa: BLE001 - whatever a hook raises
            reason = f"segment_before_send raised {type(error).__name__}: {error}"
            chunk.rejected.append(Rejected(line, "", reason, record.rstrip(b"\r\n")))
        else:
            if data is None:
                chunk.dropped += 1
            else:
                chunk.messages.append(data)
        left -= 1
        room -= len(record)
        if left == 0 or room <= 0:
            chunk.end = Position.of(line, end, record)
            yield chunk
            chunk, left, room = Chunk(), CHUNK_RECORDS, CHUNK_BYTES
    if left < CHUNK_RECORDS:
        chunk.end = Position.of(line, end, record)
        yield chunk


def _pass_over(records: Iterator[Line], parse: Parse, next_id: NextId, position: Position) -> None:
    """Go through the records up to a position, so that the others get the ids that they had."""
    if position == START:
        return
    for line, end, record in records:
        with suppress(ValidationError):
            parse(record, next_id)
        if end >= position.offset:
            if Position.of(line, end, record) == position:
                return
            break
    raise ImportRefused(f"line {position.line:,} is not what it was")
