"""A batch is settled by whoever holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_segment import Analytics, track
from celery_segment.delivery.outcome import Split
from celery_segment.delivery.settle import Posted, settle_damaged, settle_patiently
from support import buffer_of, let_pass

SPLIT = Posted(Split("400"), "400", 0.1)


@pytest.mark.parametrize(
    "settle", [settle_damaged, lambda *late: settle_patiently(*late, SPLIT)], ids=["found", "split"]
)
def test_one_that_is_damaged_is_left_to_whoever_took_it_over(make_app, redis, settle):
    buffer = buffer_of(make_app(segment_lease=60))
    track.delay("u", "E")
    (batch,) = buffer.claim(1)
    late = replace(buffer.begin(batch.id, "t1"), body=b'{"garbled",')
    let_pass(redis, 61)
    lease = buffer.begin(batch.id, "t2")
    assert settle(buffer, late).text.startswith("not settled: the lease expired")
    buffer.ack(lease)
    stats = Analytics().stats()
    assert (stats.delivered.messages, stats.damaged) == (1, 0)
