"""Calls are refused while Redis uses more than its share of maxmemory; nothing accepted suffers."""

from __future__ import annotations

import pytest

from batches import assert_conserved, hold, message
from celery_segment import Analytics, track
from celery_segment.errors import BufferFull
from support import allow, buffer_of, drops, wait_until

TAG = "{segment:default}"
REFUSED = r"more than segment_max_memory_share \(75%\) of its maxmemory"
MB = 1_000_000
#: A message of 30 kB; fifteen fill a batch.
PADDING = 15_000


def leave_room(redis, size):
    """Leave so many bytes until Redis uses three quarters of its maxmemory; megabytes beyond."""
    # A quarter of it has to be more than the 10 MB that Redis 6.2 takes to rewrite its file.
    take(redis, "of others", 60 * MB)
    used = redis.info("memory")["used_memory"]
    redis.config_set("maxmemory", int((used + size) / 0.75))


def take(redis, key, size):
    """Use so many bytes, which do not travel through a client's buffer."""
    redis.setrange(key, size, b"x")


def fill(buffer):
    """Append until a call is refused; return the number of messages that were accepted."""
    accepted = 0
    with pytest.raises(BufferFull, match=REFUSED):
        for accepted in range(500):
            buffer.append(message(accepted, PADDING))
    return accepted


def is_accepted(buffer):
    try:
        buffer.append(message(1))
    except BufferFull:
        return False
    return True


def deliver_all(buffer):
    allow(buffer, 32)
    while batches := buffer.claim(9):
        for batch in batches:
            buffer.ack(hold(buffer, batch.id))


@pytest.fixture(
    params=[{}, {"segment_max_batch_bytes": 200_000}, {"segment_max_buffer_bytes": 900 * MB}],
    ids=["default limits", "smaller batches", "bounded buffer"],
)
def limited(make_buffer, request):
    """A buffer; whose calls pass all their limits to the script where one is not the default."""
    return make_buffer(**request.param)


class TestRefusal:
    def test_begins_with_the_batch_that_exceeds_the_share(self, limited, redis):
        leave_room(redis, 1.5 * MB)
        accepted = fill(limited)
        assert 1.2 * MB < accepted * 2 * PADDING < 2.7 * MB
        take(redis, "of somebody else", MB)
        for refused in (limited.append, lambda m: limited.append_many([m] * 40)):
            with pytest.raises(BufferFull, match=REFUSED):
                refused(message(1))
        figures = limited.admin.snapshot()
        assert (figures.accepted, figures.refusing) == (accepted, True)
        assert 0.75 < figures.memory < 0.9

    def test_leaves_what_was_accepted_as_it_is(self, limited, redis):
        leave_room(redis, 1.5 * MB)
        accepted = fill(limited)
        take(redis, "of somebody else", MB)
        before = redis.get(f"{TAG}:count"), redis.get(f"{TAG}:open")
        for _ in range(50):
            assert not is_accepted(limited)
        assert (redis.get(f"{TAG}:count"), redis.get(f"{TAG}:open")) == before
        assert_conserved(redis, limited)
        mark = limited.admin.mark()
        assert limited.admin.snapshot().buffered.messages == 0
        assert limited.admin.remaining(mark) == accepted
        assert not is_accepted(limited)
        deliver_all(limited)
        assert limited.admin.snapshot().delivered.messages == accepted

    def test_does_not_keep_the_open_batch_from_being_claimed(self, limited, redis):
        limited.append(message(0))
        leave_room(redis, -2 * MB)
        assert limited.due(1.0, look=True)
        assert not is_accepted(limited)
        (batch,) = limited.claim(1)
        assert batch.count == 1
        assert not is_accepted(limited)
        assert limited.admin.snapshot().buffered.messages == 0
        limited.ack(hold(limited, batch.id))

    def test_stores_all_of_many_or_none(self, limited, redis):
        leave_room(redis, MB)
        limited.append_part([message(n, PADDING) for n in range(60)])  # several batches
        with pytest.raises(BufferFull, match=REFUSED):
            limited.append_part([message(n, PADDING) for n in range(60)])
        assert limited.admin.snapshot().accepted == 60

    def test_is_found_by_a_tick_that_looks(self, limited, redis):
        limited.append(message(0))
        leave_room(redis, -2 * MB)
        assert limited.due(1.0, look=False)
        assert is_accepted(limited)
        limited.due(1.0, look=True)
        with pytest.raises(BufferFull, match=REFUSED):
            limited.append(message(1))


class TestAcceptance:
    @pytest.fixture
    def refusing(self, limited, redis):
        """A buffer with two messages that refuses calls, since another user takes too much."""
        limited.append_many([message(0), message(1)])
        take(redis, "of somebody else", 6 * MB)
        leave_room(redis, -3 * MB)
        limited.due(1.0, look=True)
        assert not is_accepted(limited)
        return limited

    @pytest.mark.parametrize("more", ["freed", "raised", "unbounded"])
    def test_by_the_tick(self, refusing, redis, more):
        if more == "freed":
            redis.delete("of somebody else")
        else:
            redis.config_set("maxmemory", 0 if more == "unbounded" else 500 * MB)
        refusing.due(1.0, look=False)
        assert not is_accepted(refusing)
        refusing.due(1.0, look=True)
        assert is_accepted(refusing)
        figures = refusing.admin.snapshot()
        assert (figures.buffered.messages, figures.refusing) == (3, False)

    def test_by_the_tick_when_nothing_waits_any_more(self, refusing, redis):
        deliver_all(refusing)
        refusing.due(1.0, look=True)
        assert not is_accepted(refusing)
        redis.delete("of somebody else")
        assert not refusing.due(1.0, look=True)
        assert is_accepted(refusing)

    def test_by_a_refused_call_where_there_is_no_worker(self, refusing, redis):
        assert 0 < redis.pttl(f"{TAG}:looked") <= 1_000
        redis.set(f"{TAG}:looked", 1)  # somebody looked, and that second does not end
        redis.config_set("maxmemory", 0)
        assert not is_accepted(refusing), "each refused call looks by itself"
        redis.pexpire(f"{TAG}:looked", 1)
        wait_until(lambda: is_accepted(refusing))
        assert not refusing.admin.snapshot().refusing

    def test_by_draining(self, limited, redis):
        leave_room(redis, 1.5 * MB)
        accepted = fill(limited)
        deliver_all(limited)
        limited.due(1.0, look=True)
        assert is_accepted(limited)
        assert limited.admin.snapshot().delivered.messages == accepted


class TestNoRefusal:
    def test_without_a_maxmemory(self, limited):
        for number in range(100):
            limited.append(message(number, PADDING))
        assert limited.due(1.0, look=True)
        assert is_accepted(limited)
        figures = limited.admin.snapshot()
        assert (figures.memory, figures.refusing) == (None, False)

    @pytest.fixture
    def blind_url(self, redis, redis_server):
        """The address for a user who may do anything but ask for INFO."""
        redis.execute_command("ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-info")
        yield redis_server.url.replace("redis://", "redis://blind:pw@")
        redis.acl_deluser("blind")

    def test_where_the_user_may_not_ask_for_the_memory(self, blind_url, make_buffer, redis):
        buffer = make_buffer(segment_redis_url=blind_url)
        leave_room(redis, -2 * MB)
        for number in range(40):  # two batches are sealed
            buffer.append(message(number, PADDING))
        assert buffer.due(1.0, look=True)
        assert is_accepted(buffer)
        figures = buffer.admin.snapshot()
        assert (figures.memory, figures.refusing) == (None, False)

    def test_by_a_share_of_one_before_redis_refuses_itself(self, make_buffer, redis):
        buffer = make_buffer(segment_max_memory_share=1)
        leave_room(redis, 0)
        with pytest.raises(BufferFull, match=r"^Redis at .* is full"):
            for number in range(1500):
                buffer.append(message(number, PADDING))
        assert redis.info("memory")["used_memory"] > 0.95 * redis.info("memory")["maxmemory"]


class TestOnFull:
    def test_refused_calls_are_dropped_and_counted(self, make_app, redis):
        buffer = buffer_of(make_app(segment_on_full="drop"))
        track.delay("u", "accepted")
        leave_room(redis, -2 * MB)
        buffer.due(1.0, look=True)
        for _ in range(7):
            track.delay("u", "dropped")
        redis.config_set("maxmemory", 0)
        buffer.due(1.0, look=True)
        track.delay("u", "accepted")
        stats = Analytics().stats()
        assert (stats.accepted, stats.dropped) == (2, drops(full=7))
        assert_conserved(redis, buffer)
