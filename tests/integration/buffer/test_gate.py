"""What closes a source and opens it: the breaker, Retry-After, pause and resume."""

from __future__ import annotations

import pytest

from batches import BREAKER, claim_one, hold, ids, message
from celery_segment.buffer import Gate, Lease, SourceClosed
from support import allow, let_pass, wait_until


class TestGate:
    def test_a_wait_that_the_endpoint_asks_for_binds_everyone(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(3):
            buffer.append(message(number))
        allow(buffer, 8)
        first, second, _ = buffer.claim(3)
        held = hold(buffer, first.id)
        wait, _ = buffer.retry(held, "asked", 0.5, "429 Too Many Requests", breaker=BREAKER)
        assert wait == pytest.approx(0.5, abs=0.01)
        closed = buffer.begin(second.id, "t2")
        assert isinstance(closed, SourceClosed)
        assert 0 < closed.seconds <= 0.5
        assert buffer.claim(9) == []
        assert buffer.admin.snapshot().gate.reason == "429 Too Many Requests"
        assert not buffer.admin.snapshot().gate.refused
        wait_until(lambda: [b.id for b in buffer.claim(9)] == [second.id])

    def test_failures_in_a_row_trip_the_breaker_and_one_probe_reopens_it(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(8):
            buffer.append(message(number))
        allow(buffer, 8)
        batches = [hold(buffer, b.id) for b in buffer.claim(7)]
        results = [buffer.retry(h, "failure", 0, "503", breaker=BREAKER) for h in batches]
        allow(buffer, 8)
        assert [trips for _, trips in results] == [0, 0, 0, 0, 1, 0, 0]
        wait_until(lambda: buffer.admin.snapshot().gate == Gate("probing", "503"))
        probe = hold(buffer, batches[3].id, "probe")
        assert isinstance(buffer.begin(batches[4].id, "t2"), SourceClosed)
        assert not buffer.due(0.0), "while the probe hangs, there is nothing to do"
        wait, trips = buffer.retry(probe, "failure", 0, "503", breaker=BREAKER)
        assert (round(wait, 1), trips) == (0.4, 2)
        wait_until(lambda: buffer.admin.snapshot().gate.state == "probing")
        buffer.ack(hold(buffer, batches[3].id, "probe2"))
        assert isinstance(buffer.begin(batches[5].id, "t2"), Lease)
        assert isinstance(buffer.begin(batches[6].id, "t2"), Lease)

    def test_the_open_batch_is_the_probe_before_those_that_have_failed(self, buffer, redis):
        buffer.append(message(0))
        failed = claim_one(buffer)
        buffer.retry(hold(buffer, failed), "refused", 0, "403", breaker=(1, 60, 60))
        let_pass(redis, 61)
        buffer.append(message(1))
        assert isinstance(buffer.begin(failed, "t2"), SourceClosed), "its retry is due"
        probe = hold(buffer)
        assert ids(probe) == ["m1"]
        buffer.ack(probe)
        assert hold(buffer, claim_one(buffer), "t3").others_delivered

    def test_a_probe_that_is_damaged_lets_another_batch_be_it(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(number) for number in range(4)])  # the last is open
        allow(buffer, 8)
        failed, probe, other = [batch.id for batch in buffer.claim(3)]
        buffer.retry(hold(buffer, failed), "refused", 0, "401", breaker=(1, 0.1, 0.1))
        wait_until(lambda: buffer.admin.snapshot().gate.state == "probing")
        lease = hold(buffer, probe)
        assert isinstance(buffer.begin(other, "t2"), SourceClosed)
        buffer.damage(lease, "damaged")
        assert hold(buffer).id == other

    @pytest.mark.parametrize("answered", [True, False])
    @pytest.mark.parametrize("settle", ["split", "bury"])
    def test_a_probe_reopens_it_where_the_endpoint_answers_to_its_content(
        self, make_buffer, settle, answered
    ):
        buffer = make_buffer(segment_max_batch_messages=2)
        buffer.append_many([message(number) for number in range(5)])  # the last is open
        allow(buffer, 8)
        probe, other = [batch.id for batch in buffer.claim(2)]
        buffer.retry(hold(buffer, probe), "failure", 0, "503", breaker=(1, 0.1, 0.1))
        wait_until(lambda: buffer.admin.snapshot().gate.state == "probing")
        lease = hold(buffer, probe, "t2")
        if settle == "split":
            buffer.split(lease, answered=answered)
        else:
            buffer.bury(lease, "400", answered=answered)
        assert buffer.admin.snapshot().gate.state == ("open" if answered else "probing")
        assert isinstance(buffer.begin(other, "t3"), Lease), "it is the probe, or needs none"

    def test_a_success_between_failures_keeps_the_breaker_closed(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(10):
            buffer.append(message(number))
        allow(buffer, 10)
        for number, batch in enumerate(buffer.claim(10)):
            held = hold(buffer, batch.id)
            if number == 4:
                buffer.ack(held)
            else:
                buffer.retry(held, "failure", 0, "503", breaker=BREAKER)
        # Five failures since the success: tripped by the last alone.
        assert buffer.admin.snapshot().gate.reason == "503"

    def test_a_refusal_closes_at_once_and_is_no_attempt(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        _, trips = buffer.retry(held, "refused", 0, "401", breaker=(1, 0.2, 0.4))
        assert trips == 1
        wait_until(lambda: buffer.admin.snapshot().gate.state == "probing")
        assert hold(buffer, held.id, "t2").attempts == 0

    def test_the_pauses_of_one_kind_do_not_lengthen_the_others(self, buffer, redis):
        hour, found = 3600.0, []
        for what in ("failure", "failure", "failure", "refused", "refused"):
            buffer.append(message(len(found)))
            held = hold(buffer, claim_one(buffer), f"t{len(found)}")
            wait, trips = buffer.retry(held, what, 0, "503", breaker=(1, hour, 24 * hour))
            found.append((round(wait / hour), trips))
            let_pass(redis, wait + 1)
        assert found == [(1, 1), (2, 2), (4, 3), (1, 1), (2, 2)]

    def test_the_pauses_grow_only_when_different_batches_are_refused(self, buffer, redis):
        buffer.append(message(0))
        batch, hour, found = claim_one(buffer), 3600.0, []
        for _ in range(3):
            held = hold(buffer, batch, f"t{len(found)}")
            wait, _trips = buffer.retry(held, "refused", 0, "403", breaker=(1, hour, 24 * hour))
            found.append(round(wait / hour))
            let_pass(redis, wait + 1)
        assert found == [1, 1, 1]

    def test_pause_and_resume(self, buffer):
        buffer.append(message(0))
        assert buffer.admin.pause()
        assert not buffer.admin.pause()
        assert buffer.claim(1) == []
        assert buffer.admin.snapshot().gate.state == "paused"
        buffer.append(message(1))
        assert buffer.admin.resume() == 0
        assert [b.count for b in buffer.claim(1)] == [2]

    def test_a_batch_claimed_before_the_pause_is_put_back(self, buffer):
        buffer.append(message(0))
        batch = claim_one(buffer)
        buffer.admin.pause()
        assert buffer.begin(batch, "t1") == SourceClosed(None)
        assert buffer.admin.snapshot().ready.messages == 1

    def test_resume_keeps_the_wait_that_the_endpoint_asked_for(self, buffer):
        buffer.append(message(0))
        buffer.retry(hold(buffer), "asked", 30, "429", breaker=BREAKER)
        buffer.admin.pause()
        assert 29 < buffer.admin.resume() <= 30
        figures = buffer.admin.snapshot()
        assert figures.gate.seconds > 29
        assert (figures.ready.batches, figures.inflight.batches) == (0, 1), "it waits as well"

    def test_resume_keeps_a_wait_that_was_asked_for_during_a_longer_pause(self, buffer, redis):
        held = []
        for number in range(2):
            buffer.append(message(number))
            held.append(hold(buffer, token=f"t{number}"))
        buffer.retry(held[0], "failure", 0, "503", breaker=(1, 300, 300))
        buffer.retry(held[1], "asked", 30, "429", breaker=BREAKER)
        assert buffer.admin.snapshot().gate.reason == "503"
        assert 29 < buffer.admin.resume() <= 30
        assert buffer.admin.snapshot().gate.reason == "429"
        let_pass(redis, 31)
        assert buffer.claim(2)

    def test_resume_forgets_the_pause_of_a_failing_endpoint(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        buffer.retry(held, "refused", 0, "401", breaker=(1, 300, 300))
        assert buffer.admin.snapshot().gate.refused
        assert buffer.admin.resume() == 0
        assert not buffer.admin.snapshot().gate.refused
        assert hold(buffer, token="t2").id == held.id
