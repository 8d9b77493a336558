"""The import of one file: its records, its checkpoint and its rejects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from celery_segment.errors import ImportRefused
from celery_segment.importing.checkpoint import Checkpoint
from celery_segment.importing.inputs import STDIN, Input, format_of
from celery_segment.importing.ndjson import NDJSON
from celery_segment.importing.reading import Chunk, Format, Rejected, chunks
from celery_segment.importing.rejects import Rejects
from celery_segment.importing.table import CSV
from celery_segment.producer import Producer, refuse

__all__ = ["File", "Options"]


class Options(NamedTuple):
    """The options that determine which messages a file contains.

    Attributes:
        format: "ndjson" or "csv"; by default inferred from the file name.
        type: The type of records that have none.
        texts: CSV columns whose cells are always strings.
        plan: The path of the tracking plan that records are rejected by; None for none.
    """

    format: str | None = None
    type: str | None = None
    texts: Collection[str] = ()
    plan: str | None = None


class File:
    """A file, and the state of its import.

    The checkpoint and the rejects are stored next to the file, unless paths are given.
    Without a path, an input that is not a regular file, such as standard input, has no
    checkpoint. A dry run writes no checkpoint, and rejects only to a given path.

    Raises:
        ImportRefused: The file cannot be read with these options.
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
            raise ImportRefused(f"{name}: --text is only for CSV")
        plain = name != STDIN and Path(name).is_file()
        if not dry_run:
            checkpoint = checkpoint or (Path(f"{name}.checkpoint") if plain else None)
            rejects = rejects or Path(f"{name if plain else 'stdin'}.rejects")
        self.checkpoint = None if dry_run else checkpoint
        self.rejects = Rejects(rejects) if rejects else None
        if plain:
            self.open()  # reports an error in any file before anything is stored
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
        """Open the file and, for CSV, read its header.

        Raises:
            ImportRefused: The file cannot be read with these options.
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
            raise ImportRefused(f"{self.name}: {error.problem}", hint=error.hint) from None

    def load_checkpoint(self, *, resume: bool) -> None:
        """Continue from the checkpoint of an earlier import, if there is one.

        Raises:
            ImportRefused: There is a checkpoint that must not or cannot be resumed, or there
                are rejects of an earlier import.
        """
        if resume and not self.checkpoint:
            raise ImportRefused(
                f"{self.name}: there is no checkpoint to resume from",
                hint="give the --checkpoint of the earlier import",
            )
        found = self._read_checkpoint()
        if found is None:
            if self.rejects and self.rejects.size():
                raise ImportRefused(
                    f"{self.rejects.path} exists from an earlier import",
                    hint="move it away, or give another path with --rejects",
                )
            return
        if not resume:
            raise ImportRefused(
                f"{self.name}: an earlier import ended at line {found.position.line:,}",
                hint=f"continue it with --resume, or delete {self.checkpoint} to start over",
            )
        was, now = ({"file": s.file, "size": s.size, **s.options} for s in (found, self.state))
        for what, value in now.items():
            if was.get(what) != value:
                raise ImportRefused(
                    f"{self.name}: the {what} of the earlier import was {was.get(what)!r},"
                    f" not {value!r}",
                    hint=f"resume that import, or delete {self.checkpoint} to start over",
                )
        self.state, self.resumed = found, True

    def begin(self) -> None:
        """Lock the file, and write the first checkpoint.

        Raises:
            ImportRefused: Another import of the file is running, or ran since
                ``load_checkpoint``; or the checkpoint cannot be written.
        """
        if self.checkpoint:
            self.input.lock()
            if self._read_checkpoint() != (self.state if self.resumed else None):
                raise ImportRefused(f"{self.name}: another import of this file ran meanwhile")
            try:
                self._save()
            except OSError as error:
                raise ImportRefused(
                    f"{self.checkpoint}: {error.strerror}",
                    hint="give another path with --checkpoint",
                ) from error

    def chunks(self) -> Iterator[Chunk]:
        """Read the file from the position of the checkpoint on.

        Raises:
            ImportRefused: The content before that position has changed.
        """
        try:
            producer, position = self._producer, self.state.position
            encode = partial(producer.prepare, quarantine=refuse)
            yield from chunks(producer.source, self._records, encode, position)
        except ImportRefused as error:
            raise ImportRefused(f"{self.name}: {error}, so it cannot be resumed") from None

    def reject(self, rejected: Sequence[Rejected]) -> None:
        """Write rejected records to disk, before the checkpoint that counts them."""
        if self.rejects:
            self.state.rejects = self.rejects.write(self.state.rejects, self.name, rejected)

    def settle(self, chunk: Chunk) -> None:
        """Record in the checkpoint that a chunk is stored."""
        figures = self.state.figures
        figures.taken += len(chunk.messages)
        figures.rejected += len(chunk.rejected)
        figures.dropped += chunk.dropped
        self.state.position = chunk.end
        self._save()

    def finish(self) -> None:
        """Record in the checkpoint that the file is imported completely."""
        self.state.finished = True
        self._save()

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, since the import is complete."""
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)

    def _read_checkpoint(self) -> Checkpoint | None:
        return Checkpoint.load(self.checkpoint) if self.checkpoint else None

    def _save(self) -> None:
        if self.checkpoint:
            self.state.save(self.checkpoint)
