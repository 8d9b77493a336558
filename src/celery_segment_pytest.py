"""Pytest plugin with the fixture ``segment_outbox``.

pytest imports this module at every start, in every project of the environment. It is a
module outside the package, so that Celery is not imported before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from celery_segment.testing import Outbox

__all__ = ["segment_outbox"]


@pytest.fixture
def segment_outbox() -> Iterator[Outbox]:
    """Record the messages tracked in this test; neither Redis nor a broker is needed."""
    from celery_segment.testing.outbox import Outbox

    with Outbox() as outbox:
        yield outbox
