"""What happens to a batch whose content, or record, in Redis is lost or cut off."""

from __future__ import annotations

import pytest

from batches import BREAKER, hold, ids, message
from celery_segment import Analytics, track
from celery_segment.buffer import Attachments, Stale
from celery_segment.buffer.body import compressed
from celery_segment.errors import SegmentBufferError
from support import buffer_of, let_pass, wait_until

KEY = "{segment:default}"


def delete(redis):
    redis.delete(f"{KEY}:batch:1")


def cut(redis):
    redis.set(f"{KEY}:batch:1", redis.getrange(f"{KEY}:batch:1", 0, 99))


def cut_compressed(redis):
    redis.set(f"{KEY}:batch:1", compressed(redis.get(f"{KEY}:batch:1"))[:-9])


def replace(redis):
    redis.set(f"{KEY}:batch:1", "x")


def lose_all(redis):
    redis.delete(f"{KEY}:batch:1", f"{KEY}:meta:1")


@pytest.fixture
def stored(make_app):
    """Store two batches of five messages, and the ids of the second."""
    app = make_app(segment_max_batch_messages=5)
    with Analytics().batch():
        ids = [track.delay("u", f"E{number}").id for number in range(10)]
    buffer_of(app).admin.mark()
    return app, ids


@pytest.mark.parametrize("harm", [delete, cut, cut_compressed, replace, lose_all])
def test_it_is_counted_and_holds_up_no_other(stored, server, redis, workers, harm):
    app, ids = stored
    harm(redis)
    worker = workers.start(app, processes=1)
    assert server.wait_for_messages(5, timeout=20)
    wait_until(lambda: "damaged: its content in Redis is lost or cut off" in worker.output)
    wait_until(lambda: Analytics().stats().inflight.batches == 0)
    assert set(server.received) == set(ids[5:])
    assert len(server.requests) == 1, "nothing of it was sent"
    stats = Analytics().stats()
    assert stats.dead.messages == 0
    assert stats.gate.state == "open"
    assert not redis.keys(f"{KEY}:*:1")
    assert "batch 1, " in worker.output
    track.delay("u", "later")
    assert server.wait_for_messages(6, timeout=20)
    wait_until(lambda: Analytics().stats().damaged == 5)


def test_a_record_that_is_lost_is_written_anew(stored, server, redis, workers):
    app, ids = stored
    redis.delete(f"{KEY}:meta:1")
    Analytics().stats()
    workers.start(app, processes=1)
    assert server.wait_for_messages(10, timeout=20)
    wait_until(lambda: Analytics().stats().waiting == 0)
    assert set(server.received) == set(ids)
    stats = Analytics().stats()
    assert (stats.delivered.messages, stats.damaged) == (10, 0)


def test_one_that_is_garbled_is_not_split_for_ever(stored, server, redis, workers):
    app, ids = stored
    content = bytearray(redis.get(f"{KEY}:batch:1"))
    content[5:15] = b"?" * 10
    redis.set(f"{KEY}:batch:1", bytes(content))
    workers.start(app, processes=1)
    wait_until(lambda: Analytics().stats().damaged == 5)
    assert server.wait_for_messages(5, timeout=20)
    assert set(server.received) == set(ids[5:])


class TestLostRecords:
    """What is lost of the records of batches, and of the source's own."""

    @pytest.fixture
    def buffer(self, make_app):
        return buffer_of(make_app(segment_max_batch_messages=3))

    def test_the_figures_let_go_of_what_is_gone_without_a_trace(self, buffer, redis):
        buffer.append_many([message(n) for n in range(6)])
        buffer.admin.mark()
        redis.delete(f"{KEY}:batch:1", f"{KEY}:meta:1", f"{KEY}:ready")
        assert Analytics().stats().waiting == 6
        assert Analytics().deliver(timeout=5) == 0
        stats = Analytics().stats()
        assert (stats.accepted, stats.waiting, stats.damaged) == (6, 0, 6)

    def test_figures_that_are_lost_begin_anew(self, buffer, redis):
        buffer.append_many([message(n) for n in range(4)])
        batch = hold(buffer)
        redis.delete(f"{KEY}:stats")
        buffer.ack(batch)
        buffer.reap()
        stats = Analytics().stats()
        assert (stats.accepted, stats.delivered.messages, stats.damaged) == (4, 3, 0)

    def test_dead_letters_are_listed_replayed_and_purged(self, buffer, redis):
        buffer.append_many([message(n) for n in range(6)])
        for _ in range(2):
            buffer.bury(hold(buffer), "bad", answered=True)
        redis.delete(f"{KEY}:meta:1")
        assert [(d.id, d.messages) for d in buffer.admin.dead_letters()] == [("1", 0), ("2", 3)]
        buffer.admin.replay(["1"])
        assert ids(hold(buffer, buffer.claim(1)[0].id)) == ["m0", "m1", "m2"]
        stats = Analytics().stats()
        assert (stats.inflight.messages, stats.dead.messages, stats.ready.messages) == (3, 3, 0)
        redis.delete(f"{KEY}:meta:2")
        assert buffer.admin.purge(["2"]) == 0

    def test_a_dead_letter_that_cannot_be_read_is_named(self, buffer, redis):
        buffer.append_many([message(n) for n in range(3)])
        buffer.bury(hold(buffer), "bad", answered=True)
        cut(redis)
        redis.append(f"{KEY}:batch:1", "x")
        with pytest.raises(SegmentBufferError, match="batch 1 of source 'default' is damaged"):
            Analytics().dead_letters.messages("1")
        assert Analytics().dead_letters.replay() == 3
        assert Analytics().deliver(timeout=5) == 0
        assert Analytics().stats().damaged == 3

    def test_what_the_holder_has_read_survives_in_the_halves(self, buffer, redis):
        buffer.append_many([message(n) for n in range(3)])
        batch = hold(buffer)
        redis.delete(f"{KEY}:batch:1")
        buffer.split(batch)
        found = [ids(hold(buffer, each.id, each.id)) for each in buffer.claim(2)]
        assert found == [["m0"], ["m1", "m2"]]

    def test_a_holder_whose_record_is_lost_settles_nothing(self, buffer, redis):
        buffer.append_many([message(n) for n in range(3)])
        batch = hold(buffer)
        redis.hdel(f"{KEY}:meta:1", "count")
        for attempt in (
            lambda: buffer.ack(batch),
            lambda: buffer.split(batch),
            lambda: buffer.retry(batch, "failure", 1, "why", breaker=BREAKER),
            lambda: buffer.bury(batch, "bad", answered=True),
        ):
            with pytest.raises(Stale):
                attempt()

    def test_callbacks_whose_record_is_lost_hold_up_no_drain(self, buffer, redis):
        own = {0: Attachments(b"{}")}
        for _ in range(2):
            buffer.append_many([message(0)], own)
            buffer.ack(hold(buffer))
        redis.delete(f"{KEY}:settled:delivered:1")
        let_pass(redis, 3600)
        assert [each.name for each in buffer.uncalled()] == ["delivered:2"]
        assert Analytics().stats().uncalled_batches == 1

    def test_the_number_of_the_open_batchs_messages_is_found_again(self, buffer, redis):
        buffer.append_many([message(n) for n in range(2)])
        redis.delete(f"{KEY}:count")
        assert Analytics().stats().buffered.messages == 2
        buffer.append(message(2))
        redis.delete(f"{KEY}:count")
        buffer.append(message(3))
        assert [each.count for each in buffer.claim(2)] == [3, 1]
        assert Analytics().stats().accepted == 4

    def test_so_it_is_by_calls_with_the_default_limits(self, make_app, redis):
        buffer = buffer_of(make_app())
        for number in range(3):
            buffer.append(message(number))
            redis.delete(f"{KEY}:count")
        assert [each.count for each in buffer.claim(1)] == [3]

    def test_a_sequence_that_is_lost_repeats_no_number(self, buffer, redis):
        buffer.append_many([message(n) for n in range(7)])
        redis.delete(f"{KEY}:state")
        found = [ids(hold(buffer, each.id, each.id)) for each in buffer.claim(2)]
        assert found == [["m0", "m1", "m2"], ["m3", "m4", "m5"]]
        assert buffer.admin.mark() > 10**12
        assert Analytics().stats().ready.messages == 1

    def test_a_body_that_is_gone_is_not_compressed(self, buffer, redis):
        buffer.append_many([message(n) for n in range(3)])
        buffer.admin.mark()
        redis.delete(f"{KEY}:batch:1")
        assert not buffer.compress("1")
        assert not redis.exists(f"{KEY}:batch:1")
