"""A Redis that is full, or has forgotten its scripts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batches import BREAKER, hold, message
from celery_segment.buffer import DeadLettersFull, Pace
from celery_segment.errors import BufferFull, SegmentBufferError
from celery_segment.runtime import runtime_of
from support import allow, buffer_of, let_pass, wait_until


class TestFullRedis:
    def test_a_call_is_refused_and_the_workers_drain(self, make_buffer, redis):
        buffer = make_buffer()
        for number in range(3000):
            buffer.append(message(number, padding=100))
        redis.config_set("maxmemory", 1)
        before = buffer.admin.snapshot()
        with pytest.raises(BufferFull, match="maxmemory"):
            buffer.append(message(1))
        with pytest.raises(BufferFull):
            buffer.append_many([message(1)] * 3)
        # The look at the memory has a test of its own: test_room.py.
        moving = {"oldest": 0, "memory": None}
        assert replace(buffer.admin.snapshot(), **moving) == replace(before, **moving)
        assert buffer.due(1.0)
        buffer.reap()
        first = hold(buffer)
        buffer.retry(first, "failure", 0, "503", breaker=BREAKER)
        buffer.split(hold(buffer, first.id, "t2"))
        buffer.bury(hold(buffer), "400", answered=True)
        while batches := buffer.claim(9):
            for batch in batches:
                buffer.ack(hold(buffer, batch.id))
        buffer.admin.pause()
        buffer.admin.resume()
        buffer.admin.mark()
        assert buffer.admin.replay([d.id for d in buffer.admin.dead_letters()]) > 0
        buffer.ack(hold(buffer))
        after = buffer.admin.snapshot()
        assert after.delivered.messages == before.accepted == after.accepted
        redis.config_set("maxmemory", 0)

    def test_workers_do_the_rest_of_their_work(self, make_app, redis):
        app = make_app(segment_max_batch_messages=1, segment_lease=60, segment_on_delivered="hook")
        buffer = buffer_of(app)
        buffer.append_many([message(n, padding=100) for n in range(6)])  # the last is open
        allow(buffer, 9)
        delivered, claimed, lost, cut = [batch.id for batch in buffer.claim(4)]
        buffer.ack(hold(buffer, delivered))
        let_pass(redis, 61)
        redis.delete("{segment:default}:meta:3")
        redis.config_set("maxmemory", 1)
        assert buffer.compress("5")
        assert buffer.release(claimed)
        assert hold(buffer, lost).count == 1, "its record is written anew"
        assert buffer.damage(hold(buffer, cut), "damaged") is None
        assert Pace(runtime_of(app).topology, 1_000.0).wait(1.0)
        (settled,) = buffer.uncalled()
        buffer.called(settled)
        assert [*buffer.uncalled()] == []
        (batch,) = buffer.claim(1)
        buffer.retry(hold(buffer, batch.id), "refused", 0, "401", breaker=(1, 0.1, 0.1))
        wait_until(lambda: buffer.admin.snapshot().gate.state == "probing")
        (batch,) = buffer.claim(1)
        hold(buffer, batch.id)  # as the probe
        redis.config_set("maxmemory", 0)
        figures = buffer.admin.snapshot()
        assert (figures.delivered.messages, figures.damaged) == (1, 1)

    def test_dead_letters_are_buried_refused_listed_and_purged(self, make_buffer, redis):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        for number in range(80):
            buffer.append(message(number, padding=15_000))
        allow(buffer, 9)
        first, second, third, *_ = [hold(buffer, batch.id) for batch in buffer.claim(9)]
        redis.config_set("maxmemory", 1)
        redis.script_flush()
        buffer.bury(first, "400", answered=True)
        buffer.bury(second, "400", answered=True)
        with pytest.raises(DeadLettersFull):
            buffer.bury(third, "400", answered=True)
        assert [letter.id for letter in buffer.admin.dead_letters()] == [first.id, second.id]
        assert len(buffer.admin.messages(first.id)) == first.count
        assert buffer.admin.purge([first.id]) == first.count
        buffer.bury(third, "400", answered=True)
        assert buffer.admin.replay([second.id]) == second.count
        redis.config_set("maxmemory", 0)


class TestScriptsFlushed:
    def test_every_transition_survives_it(self, buffer, redis):
        def flushed(call):
            redis.script_flush()
            return call()

        flushed(lambda: buffer.append(message(0)))
        flushed(lambda: buffer.append_many([message(1)]))
        assert flushed(lambda: buffer.due(20.0))
        flushed(buffer.reap)
        (batch,) = flushed(lambda: buffer.claim(1))
        held = flushed(lambda: buffer.begin(batch.id, "t1"))
        flushed(lambda: buffer.ack(held))
        assert flushed(buffer.admin.snapshot).delivered.messages == 2


def test_a_command_that_a_server_does_not_know_is_told_without_its_arguments(make_buffer):
    # As where its rename-command hides EVALSHA.
    with pytest.raises(SegmentBufferError, match="refused a command: ERR unknown") as caught:
        make_buffer()._server.execute("EVALSHA_IS_HIDDEN", "1", "alice@example.com")
    assert "EVALSHA_IS_HIDDEN" in str(caught.value)
    assert "alice" not in str(caught.value)
