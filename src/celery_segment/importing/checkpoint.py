"""The progress of a file's import, kept in a small file that outlives the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from celery_segment.errors import ImportRefused
from celery_segment.files import written_atomically
from celery_segment.importing.reading import START, Position

__all__ = ["Checkpoint", "Figures"]


class Figures(msgspec.Struct):
    """The outcome of a file's records, as numbers.

    Attributes:
        taken: Records whose messages were stored.
        rejected: Records that were rejected.
        dropped: Records whose messages ``segment_before_send`` dropped.
    """

    taken: int = 0
    rejected: int = 0
    dropped: int = 0

    @property
    def records(self) -> int:
        """The number of records."""
        return self.taken + self.rejected + self.dropped


class Checkpoint(msgspec.Struct, forbid_unknown_fields=True):
    """The state that an import needs to be resumed.

    Attributes:
        file: The name of the file; a resumed import must have the same, like the next two.
        size: The size of the file in bytes; None if unknown.
        options: The options of the import.
        position: The end of the records that are stored or rejected.
        rejects: The size of the rejects file, in bytes.
        figures: The outcome so far.
        finished: Whether the file is imported completely.
    """

    file: str
    size: int | None
    options: dict[str, Any]
    position: Position = START
    rejects: int = 0
    figures: Figures = msgspec.field(default_factory=Figures)
    finished: bool = False

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Return the checkpoint in a file; None if the file does not exist.

        Raises:
            ImportRefused: The file is not a checkpoint.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ImportRefused(f"{path} is not a checkpoint: {error}") from None

    def save(self, path: Path) -> None:
        """Replace the file; after a crash it is the old one or the new one."""
        with written_atomically(path, overwrite=True) as stream:
            stream.write(msgspec.json.encode(self))
