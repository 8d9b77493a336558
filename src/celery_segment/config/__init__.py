"""The settings: their declarations, the parsers of their values, and loading."""

from __future__ import annotations

from celery_segment.config.broker import no_redis
from celery_segment.config.declaration import declared
from celery_segment.config.eager import Eager
from celery_segment.config.loading import load, redis_of
from celery_segment.config.masking import mask_settings
from celery_segment.config.oauth import OAuth, read_key
from celery_segment.config.parsers import PrivateKey, WriteKey
from celery_segment.config.settings import Settings
from celery_segment.config.source import DEFAULT_SOURCE, Source

__all__ = [
    "DEFAULT_SOURCE",
    "Eager",
    "OAuth",
    "PrivateKey",
    "Settings",
    "Source",
    "WriteKey",
    "declared",
    "load",
    "mask_settings",
    "no_redis",
    "read_key",
    "redis_of",
]
