"""One file on its way: its records, its checkpoint and its rejects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from celery_segment.errors import ImportRefused
from celery_segment.importing.checkpoint import Checkpoint
from celery_segment.importing.inputs import STDIN, Input, format_of
from celery_segment.importing.ndjson import NDJSON
from celery_segment.importing.reading import Chunk, Format, Rejected, chunks
from celery_segment.importing.rejects import Rejects
from celery_segment.importing.table import CSV
from celery_segment.producer import Producer

__all__ = ["File", "Options"]


class Options(NamedTuple):
    """What decides which messages a file holds, besides its content.

    ``format`` is "ndjson" or "csv"; without it the name tells. ``type`` is that of the
    records without one. ``texts`` are columns whose cells are texts, whatever they look like.
    """

    format: str | None = None
    type: str | None = None
    texts: Collection[str] = ()


class File:
    """A file, and what is known of its import so far.

    Its checkpoint and its rejects lie beside it, unless paths are given; what is no plain
    file, such as the standard input, has no checkpoint then. A dry run writes no file but
    rejects whose path is given.

    Raises:
        ImportRefused: It cannot be read so.
    """

    input: Input
    _records: Format

    def __init__(
        self,
        name: str,
        producer: Producer,
        options: Options,
        *,
        checkpoint: Path | None,
        rejects: Path | None,
        dry_run: bool,
    ) -> None:
        self.name = name
        self._producer = producer
        self._options = options = options._replace(format=options.format or format_of(name))
        if options.texts and options.format != "csv":
            raise ImportRefused(f"{name}: --text is for the columns of CSV")
        plain = name != STDIN and Path(name).is_file()
        if not dry_run:
            checkpoint = checkpoint or (Path(f"{name}.checkpoint") if plain else None)
            rejects = rejects or Path(f"{name if plain else 'stdin'}.rejects")
        self.checkpoint = None if dry_run else checkpoint
        self.rejects = Rejects(rejects) if rejects else None
        if plain:
            self.open()  # what is wrong with it is told before anything is stored
            self.input.close()
        self.state = Checkpoint(
            file=str(Path(name).absolute()) if plain else name,
            size=Path(name).stat().st_size if plain else None,
            options={
                **options._asdict(),
                "texts": sorted(options.texts),
                "source": producer.source,
            },
        )
        self.resumed = False

    def open(self) -> None:
        """Open it and, of CSV, read the header.

        Raises:
            ImportRefused: It cannot be read so.
        """
        self.input = Input(self.name)
        lines, kind, texts = self.input.lines(), self._options.type, self._options.texts
        try:
            if self._options.format == "csv":
                self._records = CSV(lines, kind, texts)
            else:
                self._records = NDJSON(lines, kind)
        except ImportRefused as error:
            self.input.close()
            raise ImportRefused(f"{self.name}: {error}") from None

    def look_back(self, *, resume: bool) -> None:
        """Take over what an earlier import left.

        Raises:
            ImportRefused: It left something that is not to be resumed, or cannot be.
        """
        if resume and not self.checkpoint:
            raise ImportRefused(f"{self.name}: --resume needs the --checkpoint of that import")
        found = self._found()
        if found is None:
            if self.rejects and self.rejects.size():
                raise ImportRefused(
                    f"{self.rejects.path} is there from an earlier import: move it away, or"
                    " name another with --rejects"
                )
            return
        if not resume:
            raise ImportRefused(
                f"{self.name}: {self.checkpoint} says that an import of it came to line"
                f" {found.position.line:,}: go on with --resume, or delete that file to begin again"
            )
        was, now = ({"file": s.file, "size": s.size, **s.options} for s in (found, self.state))
        for what, value in now.items():
            if was.get(what) != value:
                raise ImportRefused(
                    f"{self.name}: {self.checkpoint} is of an import whose {what} was"
                    f" {was.get(what)!r}, not {value!r}: resume that one, or delete that file"
                )
        self.state, self.resumed = found, True

    def begin(self) -> None:
        """Make it this import's own.

        Raises:
            ImportRefused: Another import has it, or had it since ``look_back``; or the
                checkpoint cannot be written.
        """
        if self.checkpoint:
            self.input.lock()
            if self._found() != (self.state if self.resumed else None):
                raise ImportRefused(f"{self.name}: another import of it has been at work")
            try:
                self._save()
            except OSError as error:
                text = f"{self.checkpoint}: {error.strerror}; name another with --checkpoint"
                raise ImportRefused(text) from error

    def chunks(self) -> Iterator[Chunk]:
        """Read on from where the checkpoint is.

        Raises:
            ImportRefused: It is not the file that was begun.
        """
        try:
            producer, position = self._producer, self.state.position
            yield from chunks(producer.source, self._records, producer.prepare, position)
        except ImportRefused as error:
            raise ImportRefused(f"{self.name}: {error}, so it cannot be resumed") from None

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Keep what was rejected: the disk has it before the checkpoint counts on it."""
        if self.rejects:
            self.state.rejects = self.rejects.write(self.state.rejects, self.name, rejected)

    def settle(self, chunk: Chunk) -> None:
        """Note that a chunk is stored."""
        figures = self.state.figures
        figures.taken += len(chunk.messages)
        figures.rejected += len(chunk.rejected)
        figures.dropped += chunk.dropped
        self.state.position = chunk.end
        self._save()

    def finish(self) -> None:
        """Note that nothing of it is left."""
        self.state.finished = True
        self._save()

    def forget(self) -> None:
        """Delete the checkpoint: the import is complete."""
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)

    def _found(self) -> Checkpoint | None:
        return Checkpoint.load(self.checkpoint) if self.checkpoint else None

    def _save(self) -> None:
        if self.checkpoint:
            self.state.save(self.checkpoint)
