"""The settings: what there is to set, what a value may be, and where it is read from."""

from __future__ import annotations

from celery_segment.config.loading import load, settings_of
from celery_segment.config.parsers import WriteKey
from celery_segment.config.settings import DEFAULT_SOURCE, Settings, Source, declared

__all__ = ["DEFAULT_SOURCE", "Settings", "Source", "WriteKey", "declared", "load", "settings_of"]
