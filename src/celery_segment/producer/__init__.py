"""A message goes into its source's buffer, in the process that calls."""

from __future__ import annotations

from celery_segment.producer.fallback import Fallback
from celery_segment.producer.held import HeldCalls, held_by
from celery_segment.producer.places import log_once
from celery_segment.producer.plans import Plans, refuse
from celery_segment.producer.producer import Discard, Producer
from celery_segment.producer.recording import RecordingProducer, recorded
from celery_segment.producer.sharding import ByUser, InTurn
from celery_segment.producer.spill import Spill
from celery_segment.producer.store import PartStore, Store
from celery_segment.producer.waker import (
    DELIVER,
    DRAIN,
    Sender,
    Waker,
    impatient_connection,
)

__all__ = [
    "DELIVER",
    "DRAIN",
    "ByUser",
    "Discard",
    "Fallback",
    "HeldCalls",
    "InTurn",
    "PartStore",
    "Plans",
    "Producer",
    "RecordingProducer",
    "Sender",
    "Spill",
    "Store",
    "Waker",
    "held_by",
    "impatient_connection",
    "log_once",
    "recorded",
    "refuse",
]
