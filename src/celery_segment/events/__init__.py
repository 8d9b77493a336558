"""Events, traits and properties as classes, checked by type checkers and at the call.

See docs/how-to/events.md.
"""

from __future__ import annotations

from msgspec import UNSET, Meta, UnsetType, field

from celery_segment.events.event import Event
from celery_segment.events.properties import Properties
from celery_segment.events.traits import Traits

__all__ = ["UNSET", "Event", "Meta", "Properties", "Traits", "UnsetType", "field"]
