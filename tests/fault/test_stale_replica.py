"""A replica that is behind takes over, and hands out ids that the old primary had handed out.

Whoever holds a batch of the old primary changes none of the new one's, whatever its id is.
"""

from __future__ import annotations

import pytest

from batches import BREAKER, hold, ids, message
from celery_segment import Analytics, track
from celery_segment.buffer import Attachments, Stale
from celery_segment.buffer.body import compressed, digest_of, messages_of
from celery_segment.buffer.scripts import script
from celery_segment.testing import EmbeddedRedis, Reply
from front import Front
from support import buffer_of, let_pass, wait_until
from topologies import command

KEY = "{segment:default}"
OWN = Attachments(b"own callbacks")


def retry(buffer, lease):
    buffer.retry(lease, "failure", 60.0, "why", "500", breaker=BREAKER)


#: What a holder may do to its batch.
TRANSITIONS = {
    "ack": lambda buffer, lease: buffer.ack(lease, "200"),
    "retry": retry,
    "split": lambda buffer, lease: buffer.split(lease, "400"),
    "bury": lambda buffer, lease: buffer.bury(lease, "why", status="400", answered=True),
    "damage": lambda buffer, lease: buffer.damage(lease, "why"),
}
#: What may have become of the new primary's batch.
PLACES = {
    "ready": lambda buffer: buffer.admin.mark(),
    "claimed": lambda buffer: buffer.claim(1),
    "held": hold,
    "retrying": lambda buffer: retry(buffer, hold(buffer)),
    "dead": lambda buffer: buffer.bury(hold(buffer), "why", answered=True),
    "delivered": lambda buffer: buffer.ack(hold(buffer)),
}


class Pair:
    """A primary and its replica, behind an address that leads to the primary."""

    def __init__(self, primary, replica, front):
        self.primary, self.replica, self._front = primary, replica, front
        command(primary.port, "REPLICAOF", "NO", "ONE")
        command(primary.port, "FLUSHALL")
        front.target = primary.port
        command(replica.port, "REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: command(primary.port, "INFO")["connected_slaves"] == 1)

    @property
    def url(self):
        return self._front.url

    def cut_off(self):
        """Have the replica receive nothing any more, once it has all so far."""
        assert command(self.primary.port, "WAIT", 1, 5_000) == 1
        command(self.replica.port, "REPLICAOF", "NO", "ONE")

    def fail_over(self):
        """Have the address lead to the replica; connections to the old primary stay."""
        self._front.target = self.replica.port
        command(self.primary.port, "REPLICAOF", "127.0.0.1", self.replica.port)

    @property
    def digest(self):
        """What the new primary holds, all of it."""
        return command(self.replica.port, "DEBUG", "DIGEST")


@pytest.fixture(scope="module")
def servers():
    config = {"repl-diskless-sync-delay": 0}
    with (
        EmbeddedRedis(appendonly=False, config=config) as one,
        EmbeddedRedis(appendonly=False, config=config) as two,
    ):
        yield one, two


@pytest.fixture
def pair(servers):
    with Front(servers[0].port) as front:
        yield Pair(*servers, front)


@pytest.fixture
def buffer(make_app, pair):
    """A buffer of which the replica has the first message, and the primary three."""
    # The contents of settled batches are kept for it.
    buffer = buffer_of(make_app(segment_redis_url=pair.url, segment_on_delivered=print))
    append(buffer, 0)
    pair.cut_off()
    append(buffer, 1, 2)
    return buffer


def append(buffer, *numbers):
    buffer.append_many([message(n) for n in numbers], {0: OWN})


def replace(pair, buffer, place="ready"):
    """Have the new primary give the old batch's id to one of its own, of the same size."""
    pair.fail_over()
    append(buffer, 3, 4)
    PLACES[place](buffer)
    assert stored(pair) == ["m0", "m3", "m4"]


def stored(pair):
    """Return the ids of the messages of the new primary's batch 1."""
    client = pair.replica.client()
    content = client.get(f"{KEY}:batch:1")
    client.close()
    return [bytes(each).decode().split('"')[3] for each in messages_of(content)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_holder_changes_no_other_batch_of_the_same_id(pair, buffer, transition, place):
    old = hold(buffer, token="old")
    assert (old.id, ids(old)) == ("1", ["m0", "m1", "m2"])
    replace(pair, buffer, place)
    before = pair.digest
    with pytest.raises(Stale):
        TRANSITIONS[transition](buffer, old)
    assert not buffer.release(old.id, old.token)
    assert pair.digest == before


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("left", [(), (b"once more",)])
def test_whoever_ran_the_callbacks_of_the_old_batch_forgets_none_of_the_new(
    pair, buffer, place, left
):
    settled = buffer.ack(hold(buffer, token="old"))
    assert len(settled.callbacks) == 2
    replace(pair, buffer, place)
    before = pair.digest
    for hook_is_left in (False, True):
        buffer.called(settled, left, hook_is_left=hook_is_left)
    assert pair.digest == before


def test_the_callbacks_of_the_new_batch_are_taken_over_with_its_messages(pair, buffer):
    old = buffer.ack(hold(buffer, token="old"))
    replace(pair, buffer, "delivered")
    buffer.called(old)
    client = pair.replica.client()
    let_pass(client, 3600)
    (new,) = buffer.uncalled()
    assert (new.name, len(new.callbacks)) == (old.name, 2)
    assert ids(new) == ["m0", "m3", "m4"]
    buffer.called(new)
    assert client.keys(f"{KEY}:settled*") == client.keys(f"{KEY}:batch:*") == []
    client.close()


def test_a_batch_is_not_replaced_by_the_old_one_compressed(pair, buffer):
    buffer.admin.mark()
    content = buffer._server.execute("GET", f"{KEY}:batch:1")
    arguments = ("1", digest_of(content), compressed(content))
    replace(pair, buffer)
    assert buffer._server.execute("STRLEN", f"{KEY}:batch:1") == len(content)
    assert buffer._server.run(script("compress"), KEY, *arguments) == 0
    assert stored(pair) == ["m0", "m3", "m4"]
    assert buffer.compress("1")


@pytest.mark.parametrize("place", ["ready", "retrying", "dead"])
def test_whoever_forgets_messages_of_the_old_batch_deletes_none_of_the_new(pair, buffer, place):
    """A failover comes between reading a batch and storing what is left of it."""
    PLACES[place](buffer)

    def wanted(data):
        if b'"m2"' in data:
            replace(pair, buffer, place)
        return b'"m2"' in data or b'"m4"' in data

    assert buffer.admin.forget("1", wanted, "why").count == 1
    assert stored(pair) == ["m0", "m3"]


def test_worker_that_posts_the_old_batch_loses_none_of_the_new(
    make_app, server, workers, pair, redis_server
):
    app = make_app(segment_redis_url=pair.url, broker_url=redis_server.url)
    workers.start(app)
    server.reply(Reply.slow(1.0))
    pair.cut_off()
    old = calls("old")
    wait_until(lambda: command(pair.primary.port, "HGET", f"{KEY}:meta:1", "token"))
    pair.fail_over()
    new = calls("new")
    assert server.wait_for(lambda: {*old, *new} <= {*server.received}, timeout=10)
    wait_until(lambda: Analytics().stats().delivered.messages == len(new))
    assert command(pair.replica.port, "HGET", f"{KEY}:state", "sequence") == "1"
    stats = Analytics().stats()
    assert (stats.accepted, stats.waiting, stats.damaged) == (len(new), 0, 0)
    assert server.duplicates == 0


def calls(event):
    with Analytics().batch():
        return [track.delay("u", event).id for _ in range(3)]
