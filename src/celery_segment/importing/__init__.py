"""Import of past events: read files of messages, validate them and store them."""

from __future__ import annotations

from celery_segment.importing.file import File
from celery_segment.importing.inputs import FORMATS, STDIN
from celery_segment.importing.reading import Rejected
from celery_segment.importing.run import Import, Watch

__all__ = ["FORMATS", "STDIN", "File", "Import", "Rejected", "Watch"]
