"""Read records into chunks of encoded messages and rejected records. No I/O of its own."""

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
    """Interface of a format: iterates over the records of a file, and parses one."""

    @property
    def scope(self) -> Iterable[str]:
        """Everything that the meaning of a record depends on, besides the record itself."""

    def __iter__(self) -> Iterator[Line]:
        """Iterate over the records, including blank lines."""

    def parse(self, record: bytes, next_id: NextId, /) -> messages.Message:
        """Return the message of a record; ``next_id`` returns its id if it has none.

        Raises:
            ValidationError: The record is rejected.
        """


class Position(msgspec.Struct, frozen=True):
    """A position in a file, with the record that ends there.

    Attributes:
        line: The number of the record's line.
        offset: The offset of its end, in bytes.
        digest: A digest of the record, to notice if the file has changed.
    """

    line: int = 0
    offset: int = 0
    digest: str = ""

    @classmethod
    def of(cls, line: int, offset: int, record: bytes) -> Position:
        """Return the position at the end of a record."""
        return cls(line, offset, blake2b(record, digest_size=16).hexdigest())


START = Position()


class Rejected(NamedTuple):
    """A record that was rejected.

    Attributes:
        line: The number of its line.
        field: The invalid field; empty if the record itself is invalid.
        reason: Why it was rejected.
        content: The bytes of the record.
        rule: The rule of the tracking plan that it violates; None if it violates none.
    """

    line: int
    field: str
    reason: str
    content: bytes
    rule: str | None = None

    def __repr__(self) -> str:
        return f"Rejected(line={self.line}, field={self.field!r})"


@dataclass
class Chunk:
    """A number of consecutive records: their messages and rejects, and where the last one ends."""

    messages: list[bytes] = field(default_factory=list, repr=False)
    rejected: list[Rejected] = field(default_factory=list)
    dropped: int = 0
    end: Position = START


def chunks(source: str, records: Format, encode: Encode, after: Position) -> Iterator[Chunk]:
    """Read the records of a file from a position on.

    Args:
        source: The name of the source.
        records: The records of the whole file.
        encode: Function that returns a message as it is stored, or None to drop it.
        after: The position.

    Raises:
        ImportRefused: The file has changed before the position.
    """
    parse, next_id = records.parse, Ids(source, *records.scope).next
    rest = iter(records)
    _skip_to(rest, parse, next_id, after)
    chunk, left, room = Chunk(), CHUNK_RECORDS, CHUNK_BYTES
    for line, end, record in rest:
        try:
            data = encode(parse(record, next_id))
        except ValidationError as error:
            if record.isspace():
                continue
            content = record.rstrip(b"\r\n")
            chunk.rejected.append(Rejected(line, error.field, error.problem, content, error.rule))
        except Exception as error:  # noqa: BLE001 - a hook may raise anything
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


def _skip_to(records: Iterator[Line], parse: Parse, next_id: NextId, position: Position) -> None:
    """Parse the records up to a position, so that later ones get the same ids as before."""
    if position == START:
        return
    for line, end, record in records:
        with suppress(ValidationError):
            parse(record, next_id)
        if end >= position.offset:
            if Position.of(line, end, record) == position:
                return
            break
    raise ImportRefused(f"line {position.line:,} has changed")
