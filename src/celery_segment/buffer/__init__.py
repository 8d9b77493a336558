"""The buffer: where accepted messages are stored, in Redis, until they are settled."""

from __future__ import annotations

from celery_segment.buffer.address import load_client
from celery_segment.buffer.admin import BufferAdmin
from celery_segment.buffer.answers import Resting
from celery_segment.buffer.body import ENVELOPE, decompressed, gzip_body, is_intact, messages_of
from celery_segment.buffer.buffer import Buffer
from celery_segment.buffer.due import Due
from celery_segment.buffer.figures import Amount, Gate, Snapshot
from celery_segment.buffer.forgetting import UNDER_WAY, Found, Wanted
from celery_segment.buffer.formats import READS, STORES, check_format
from celery_segment.buffer.groups import UNGROUPED, DeadGroup, Grouped, merged_groups
from celery_segment.buffer.history import Period, merge_periods
from celery_segment.buffer.kinds import OTHER_MESSAGES, Kind, kinds_of
from celery_segment.buffer.latency import BUCKETS, Latency
from celery_segment.buffer.moving import Moving
from celery_segment.buffer.pace import Pace
from celery_segment.buffer.parts import APPEND_BYTES, most_messages, parts_of
from celery_segment.buffer.rights import RightsMissing
from celery_segment.buffer.sources import (
    StoredSources,
    noted_sources,
    register_sources,
    stored_sources,
)
from celery_segment.buffer.tail import Tail, Tailed
from celery_segment.buffer.topology import Server, Topology, connect
from celery_segment.buffer.types import (
    NO_ATTACHMENTS,
    Attachments,
    AttachmentsByPlace,
    BatchRef,
    Busy,
    Damaged,
    DeadLetter,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    SourceClosed,
    Stale,
)
from celery_segment.buffer.violations import OTHERS, Violations, sum_violations

__all__ = [
    "APPEND_BYTES",
    "BUCKETS",
    "ENVELOPE",
    "NO_ATTACHMENTS",
    "OTHERS",
    "OTHER_MESSAGES",
    "READS",
    "STORES",
    "UNDER_WAY",
    "UNGROUPED",
    "Amount",
    "Attachments",
    "AttachmentsByPlace",
    "BatchRef",
    "Buffer",
    "BufferAdmin",
    "Busy",
    "Damaged",
    "DeadGroup",
    "DeadLetter",
    "DeadLettersFull",
    "Due",
    "Found",
    "Gate",
    "Gone",
    "Grouped",
    "Kind",
    "Latency",
    "Lease",
    "LeasedElsewhere",
    "Moving",
    "Pace",
    "Period",
    "Resting",
    "RightsMissing",
    "Server",
    "Settled",
    "Snapshot",
    "SourceClosed",
    "Stale",
    "StoredSources",
    "Tail",
    "Tailed",
    "Topology",
    "Violations",
    "Wanted",
    "check_format",
    "connect",
    "decompressed",
    "gzip_body",
    "is_intact",
    "kinds_of",
    "load_client",
    "merge_periods",
    "merged_groups",
    "messages_of",
    "most_messages",
    "noted_sources",
    "parts_of",
    "register_sources",
    "stored_sources",
    "sum_violations",
]
