"""A batch is settled by whoever holds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer import Stale
from celery_segment.delivery.outcome import Bury, Delivered, Refused, Retry, Split, WrongKey
from celery_segment.delivery.settle import Posted, settle_damaged, settle_patiently
from support import buffer_of, let_pass

#: What is decided, and the report: seconds until the next attempt, whether this worker goes on,
#: whether the batch is a dead letter, and for how long the source is left to other workers.
REPORTS = {
    "delivered": (Delivered(200), (None, True, False, 0)),
    "retry": (Retry(7.0, "503"), (7, False, False, 0)),
    "doubtful": (Retry(3.0, "401", doubtful=True), (3, False, False, 0)),
    "asked": (Retry(9.0, "429", asked=True), (9, False, False, 0)),
    "refused": (Refused("404"), (5, False, False, 0)),
    "refused key": (Refused("401", key=True), (5, False, False, 6)),
    "wrong key": (WrongKey("401"), (None, False, False, 30)),
    "split": (Split("400"), (None, True, False, 0)),
    "bury": (Bury("400", answered=True), (None, True, True, 0)),
}
SPLIT = Posted(Split("400"), "400", 0.1)


@pytest.mark.parametrize(("decision", "expected"), REPORTS.values(), ids=REPORTS)
def test_the_report_says_what_comes_next(make_app, decision, expected):
    buffer = buffer_of(make_app())
    for _ in range(2):
        track.delay("u", "E")
    (batch,) = buffer.claim(1)
    lease = buffer.begin(batch.id, "t1")
    report = settle_patiently(buffer, lease, Posted(decision, "200", 0.1))
    retry_in, *others = expected
    assert report.retry_in == (retry_in and pytest.approx(retry_in, abs=0.5))
    found = [report.may_continue, report.buried, round(report.rests_for)]
    assert found == others
    assert report.settled is None
    with pytest.raises(Stale):
        buffer.ack(lease)


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
