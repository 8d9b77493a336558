"""The import: reads files and stores them chunk by chunk, waiting for Redis if necessary."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from celery_segment.buffer import APPEND_BYTES, parts_of
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.errors import (
    BufferFull,
    BufferUnavailable,
    ImportRefused,
    ImportUnfinished,
    SegmentBufferError,
)
from celery_segment.importing.file import File, Options
from celery_segment.importing.planned import planned
from celery_segment.importing.reading import Chunk, Rejected
from celery_segment.producer import PartStore
from celery_segment.runtime import runtime_of

__all__ = ["Import", "Watch"]

#: Seconds between two attempts while the buffer accepts no messages.
POLL = 0.1


class Watch:
    """Base class for observers of an import; its methods do nothing."""

    def begins(self, file: File) -> None:
        """Called before a file is started or resumed."""

    def settled(self, file: File) -> None:
        """Called after a chunk of a file is stored."""

    def rejected(self, file: File, rejected: Sequence[Rejected]) -> None:
        """Called with the rejected records of a chunk, before it is stored."""

    def waits(self, why: str) -> None:
        """Called after each attempt that the buffer did not accept, with the reason."""


class Import:
    """Imports the messages of files into the buffer of a source.

    ::

        Import(app, ["2025.ndjson.gz"], source="marketing").run()

    A message without an id gets one that is derived from its line, so that a file may be
    imported again. Rejected records are written to a file and do not stop the import.

    Args:
        app: The Celery application.
        names: The files; "-" is standard input.
        source: The name of the source in ``segment_sources``.
        file_format: "ndjson" or "csv"; by default inferred from the name of each file.
        default_type: The type of records that have none.
        texts: CSV columns whose cells are always strings.
        plan: File with a tracking plan, or True for the one of the source: records that violate
            it are rejected, whatever the policy of the source is. By default the policy decides.
        rejects: File for rejected records, if there is a single input; by default the name
            of each input with ``.rejects`` appended, or ``stdin.rejects``.
        checkpoint: File that records the progress of a single input; by default the name of
            each input with ``.checkpoint`` appended.
        resume: Continue an earlier import of these files.
        dry_run: Read and validate, but store nothing and write no file except ``rejects``.
        timeout: Seconds to wait for room in the buffer, or for Redis.

    Raises:
        ConfigurationError: A setting is wrong, or the source is not configured.
        ImportRefused: A file cannot be imported with these options. Nothing was stored.
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
        plan: str | bool = False,
        rejects: Path | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        dry_run: bool = False,
        timeout: float = 600.0,
    ) -> None:
        self._runtime = runtime_of(app)
        producer = self._runtime.producer(source)
        if not producer.delivers and not dry_run:
            raise ImportRefused(f"source {source!r} is not enabled, so nothing would be stored")
        if dry_run and resume:
            raise ImportRefused("a dry run reads whole files", hint="leave out --resume")
        self._source = source
        path = None
        if plan:
            producer, path = planned(self._runtime.settings.source(source), plan)
        options = Options(file_format, default_type, texts, path)
        names = list(dict.fromkeys(names))
        if (checkpoint or rejects) and len(names) > 1:
            raise ImportRefused(
                "--checkpoint and --rejects are for a single file",
                hint="leave them out, or import one file at a time",
            )
        self._dry_run = dry_run
        self._timeout = timeout
        self._watch = Watch()
        paths = {"checkpoint": checkpoint, "rejects": rejects}
        self.files = [File(name, producer, options, **paths, dry_run=dry_run) for name in names]
        for file in self.files:
            file.load_checkpoint(resume=resume)

    def run(self, watch: Watch | None = None) -> None:
        """Import the files; the figures are in ``files``, also if an error is raised.

        Args:
            watch: Observer of the import.

        Raises:
            ImportUnfinished: The buffer accepted no messages until ``timeout``, or a file
                cannot be read to its end or written. The import can be resumed.
            ImportRefused: A resumed file has changed, or another import of it ran meanwhile.
        """
        self._watch = watch or self._watch
        try:
            for file in self.files:
                if not file.state.finished:
                    self._import(file)
            for file in self.files:
                file.delete_checkpoint()
        except OSError as error:
            raise ImportUnfinished(f"{error.filename}: {error.strerror}") from error
        except SegmentBufferError as error:
            raise ImportUnfinished(error.problem, hint=error.hint) from error

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
        """Store a chunk, then record it: if interrupted in between, it is stored again."""
        self._watch.rejected(file, chunk.rejected)
        file.reject(chunk.rejected)
        if not self._dry_run:
            self._append(chunk.messages)
        file.settle(chunk)

    def _append(self, messages: list[bytes]) -> None:
        # Not with the producer, which may be set to drop what the buffer does not accept.
        source = self._runtime.shards(self._source)[0].source
        # Less at once where the limit of the buffer is small.
        room, count = source.max_buffer_bytes, source.max_batch_messages
        most = min(APPEND_BYTES, room // 4) if room else APPEND_BYTES
        for store, share in self._runtime.shares(self._source, messages):
            for part in parts_of(share, count, most):
                self._append_part(store, part)
        if self._runtime.eager:  # there is no worker that checks the buffer periodically
            self._runtime.wake(self._source)

    def _append_part(self, store: PartStore, part: Sequence[bytes]) -> None:
        """Store messages, waiting until there is room for them."""
        deadline = None
        while True:
            try:
                store.append_part(part)
            except (BufferFull, BufferUnavailable) as error:
                now = time.monotonic()
                if deadline is None:
                    deadline = now + self._timeout
                elif now >= deadline:
                    raise
                self._watch.waits(str(error))
            else:
                return
            time.sleep(POLL)
