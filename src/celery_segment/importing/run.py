"""The import: files are read and stored chunk by chunk, whatever becomes of Redis meanwhile."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from celery_segment.buffer import Buffer, parts_of
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.errors import (
    BufferFull,
    BufferUnavailable,
    ImportRefused,
    ImportUnfinished,
    SegmentBufferError,
)
from celery_segment.importing.file import File, Options
from celery_segment.importing.reading import Chunk, Rejected
from celery_segment.runtime import runtime_of

__all__ = ["Import", "Watch"]

#: Bytes of messages that one round trip stores; less where the buffer has little room.
PART_BYTES = 1_000_000
#: Seconds between two attempts while the buffer takes nothing.
POLL = 0.1


class Watch:
    """Who is told how an import goes; does nothing, and is there to be derived from."""

    def begins(self, file: File) -> None:
        """A file is next, or goes on."""

    def settled(self, file: File) -> None:
        """Some more of a file is done with."""

    def rejected(self, file: File, rejected: Sequence[Rejected]) -> None:
        """Records of a file were refused."""

    def waits(self, why: str) -> None:
        """The buffer takes nothing at present; said at each attempt."""


class Import:
    """Imports messages of files into the buffer of a source.

    ::

        Import(app, ["2025.ndjson.gz"], source="marketing").run()

    A message without an id gets one that is derived from its line, so that a file may
    be imported again. What is refused goes to a file of rejects, and stops nothing.

    Args:
        app: The Celery application.
        names: The files; "-" is the standard input.
        source: The name of the source in ``segment_sources``.
        file_format: "ndjson" or "csv"; without it a file's name tells.
        default_type: The type of the records that have none.
        texts: Columns of CSV whose cells are texts, whatever they look like.
        rejects: Where to put what is refused; else beside each file, with ``.rejects``
            behind its name.
        checkpoint: Where to note how far the one file has come; else likewise.
        resume: Go on where an earlier import of these files ended.
        dry_run: Read and validate; store nothing, and write no file but ``rejects``.
        timeout: Seconds without room in Redis, or without Redis, after which to end.

    Raises:
        ConfigurationError: The settings are wrong, or there is no such source.
        ImportRefused: A file cannot be imported so. Nothing was stored.
    """

    def __init__(
        self,
        app: Any,
        names: Sequence[str],
        *,
        source: str = DEFAULT_SOURCE,
        file_format: str | None = None,
        default_type: str | None = None,
        texts: Collection[str] = (),
        rejects: Path | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        dry_run: bool = False,
        timeout: float = 600.0,
    ) -> None:
        self._runtime = runtime_of(app)
        producer = self._runtime.producer(source)
        if not producer.delivers and not dry_run:
            raise ImportRefused(f"source {source!r} is not enabled, and would store nothing")
        if dry_run and resume:
            raise ImportRefused("a dry run reads whole files: leave out --resume")
        self._source = source
        options = Options(file_format, default_type, texts)
        names = list(dict.fromkeys(names))
        if (checkpoint or rejects) and len(names) > 1:
            raise ImportRefused("--checkpoint and --rejects are for one file: leave them out")
        self._dry_run = dry_run
        self._timeout = timeout
        self._watch = Watch()
        paths = {"checkpoint": checkpoint, "rejects": rejects}
        self.files = [File(name, producer, options, **paths, dry_run=dry_run) for name in names]
        for file in self.files:
            file.look_back(resume=resume)

    def run(self, watch: Watch | None = None) -> None:
        """Import the files; ``files`` have the figures then, and so far when it raises.

        Raises:
            ImportUnfinished: Redis took nothing for too long, or a file cannot be read to
                its end, or not be written. Resumed, the import goes on.
            ImportRefused: A resumed file is not what it was.
        """
        self._watch = watch or self._watch
        try:
            for file in self.files:
                if not file.state.finished:
                    self._import(file)
            for file in self.files:
                file.forget()
        except OSError as error:
            raise ImportUnfinished(f"{error.filename}: {error.strerror}") from error
        except SegmentBufferError as error:
            raise ImportUnfinished(str(error)) from error

    def _import(self, file: File) -> None:
        file.open()
        try:
            file.begin()
            self._watch.begins(file)
            for chunk in file.chunks():
                self._store(file, chunk)
                self._watch.settled(file)
            file.finish()
        finally:
            file.input.close()

    def _store(self, file: File, chunk: Chunk) -> None:
        """Store a chunk and note it: cut off before the note, it will be stored again."""
        self._watch.rejected(file, chunk.rejected)
        file.reject(chunk.rejected)
        if not self._dry_run:
            self._append(chunk.messages)
        file.settle(chunk)

    def _append(self, messages: list[bytes]) -> None:
        # Not by the producer, which may be set to drop what the buffer does not take.
        buffer = self._runtime.buffer(self._source)
        room = buffer.source.max_buffer_bytes
        parts = parts_of(messages, min(PART_BYTES, room // 4) if room else PART_BYTES)
        woken = [self._append_part(buffer, part) for part in parts]
        if any(woken):
            self._runtime.wake(self._source)

    def _append_part(self, buffer: Buffer, part: Sequence[bytes]) -> bool:
        """Store messages, and wait until there is room for them."""
        deadline = None
        while True:
            try:
                woken = buffer.append_part(part)
            except (BufferFull, BufferUnavailable) as error:
                now = time.monotonic()
                if deadline is None:
                    deadline = now + self._timeout
                    if isinstance(error, BufferFull):
                        self._runtime.wake(self._source)
                elif now >= deadline:
                    raise
                self._watch.waits(str(error))
            else:
                return woken
            time.sleep(POLL)
