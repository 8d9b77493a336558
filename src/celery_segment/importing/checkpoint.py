"""How far the import of a file has come: a small file that outlives the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from celery_segment.errors import ImportRefused
from celery_segment.files import written_atomically
from celery_segment.importing.reading import START, Position

__all__ = ["Checkpoint", "Figures"]


class Figures(msgspec.Struct):
    """What became of a file's records; ``dropped`` are those that the source's hook dropped."""

    taken: int = 0
    rejected: int = 0
    dropped: int = 0

    @property
    def records(self) -> int:
        """How many there were."""
        return self.taken + self.rejected + self.dropped


class Checkpoint(msgspec.Struct, forbid_unknown_fields=True):
    """All that a resumed import has to know.

    ``file``, its ``size`` and the ``options`` are compared with what is asked for then;
    ``rejects`` is the size of the rejects file.
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
        """Return the checkpoint in a file; None when there is no such file.

        Raises:
            ImportRefused: The file holds something else.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ImportRefused(f"{path} is no checkpoint: {error}") from None

    def save(self, path: Path) -> None:
        """Write the file anew: it is the old one or this one, whatever happens."""
        with written_atomically(path, overwrite=True) as stream:
            stream.write(msgspec.json.encode(self))
