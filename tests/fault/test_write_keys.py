"""Of several workers one has a write key that the endpoint refuses."""

from __future__ import annotations

import json

import pytest

from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.delivery.key import KeyRecord
from celery_segment.delivery.outcome import WRONG_KEY
from celery_segment.testing import Reply
from support import buffer_of, let_pass

#: More than a batch is retried while it is not known what is at fault.
OFTEN = 30


class Times:
    accepted = refused = 0.0

    def __init__(self):
        self.batches = {}

    def refused_with(self, batch):
        return self.batches.get(batch, 0.0)

    def set_refused_with(self, batch, at):
        self.batches[batch] = at

    def let_pass(self, seconds):
        self.accepted -= seconds if self.accepted else 0
        self.refused -= seconds if self.refused else 0
        self.batches = {batch: at - seconds for batch, at in self.batches.items()}


def message(number):
    content = {"type": "track", "userId": "u", "event": f"E{number}", "messageId": f"m{number}"}
    return json.dumps(content).encode()


class Worker:
    """What a worker's processes share."""

    def __init__(self, app):
        self.buffer, self.times = buffer_of(app), Times()

    def attempt(self, batch):
        return attempt_delivery(self.buffer, batch, KeyRecord(self.times))

    def deliver(self, number):
        """Deliver a message of its own."""
        self.buffer.append(message(number))
        for batch in self.claimed():
            assert self.attempt(batch).text.startswith("delivered")

    def claimed(self):
        return [batch.id for batch in self.buffer.claim(9)]


@pytest.fixture
def revoked(server):
    """The write keys that the endpoint refuses."""
    keys = set()
    server.rule(lambda request: Reply.status(401) if request.write_key in keys else None)
    return keys


@pytest.fixture
def worker_with(make_app):
    """Make workers, each with a write key."""
    made = []

    def make(key):
        made.append(Worker(make_app(segment_write_key=key)))
        return made[-1]

    make.made = made
    return make


@pytest.fixture
def pair(worker_with):
    return worker_with("old"), worker_with("new")


@pytest.fixture
def pass_by(redis, worker_with):
    """Let some time pass, longer than any pause and wait."""

    def pass_by(seconds=400):
        let_pass(redis, seconds)
        for worker in worker_with.made:
            worker.times.let_pass(seconds)

    return pass_by


def append(worker, count):
    worker.buffer.append_many([message(100 + number) for number in range(count)])
    (batch,) = worker.claimed()
    return batch


@pytest.mark.parametrize("count", [1, 4])
class TestOneThatIsRefused:
    """It costs no batch, whatever happened to it before: none is split, nor given up."""

    @pytest.fixture
    def insist(self, pair, pass_by, count):
        """Have the worker with the old key attempt a batch again and again; it loses nothing."""
        old, new = pair

        def insist(batch):
            reports = []
            for _ in range(OFTEN):
                pass_by()
                reports.append(old.attempt(batch))
                if reports[-1].retry_in is None:  # it was put back
                    assert old.claimed() == [batch]
            figures = old.buffer.admin.snapshot()
            assert (figures.splits, figures.dead.messages) == (0, 0)
            assert any(report.rests_for == WRONG_KEY for report in reports)
            pass_by()
            assert new.attempt(batch).text.startswith(f"delivered {count} message")

        return insist

    def test_that_was_revoked_after_the_batch_had_failed(
        self, pair, insist, pass_by, server, revoked, count
    ):
        old, new = pair
        old.deliver(1)
        batch = append(old, count)
        server.reply(Reply.status(503))
        assert old.attempt(batch).retry_in is not None
        new.deliver(2)
        revoked.add("old")
        assert old.attempt(batch).retry_in is not None
        pass_by()
        new.deliver(3)
        insist(batch)

    def test_which_was_not_what_every_answer_was_about(
        self, pair, insist, pass_by, server, revoked, count
    ):
        old, new = pair
        revoked.add("old")
        batch = append(old, count)
        assert old.attempt(batch).rests_for
        for status in (503, 429):
            pass_by()
            server.reply(Reply.status(status))
            assert old.attempt(batch).retry_in is not None
        pass_by()
        new.deliver(1)
        insist(batch)

    def test_with_a_batch_that_another_key_was_refused_with(
        self, pair, insist, worker_with, pass_by, revoked, count
    ):
        old, new = pair
        other = worker_with("other")
        old.deliver(1)
        batch = append(other, count)
        revoked.update({"old", "other"})
        other.attempt(batch)
        pass_by()
        new.deliver(2)
        assert old.attempt(batch).retry_in is not None
        pass_by()
        new.deliver(3)
        insist(batch)


def test_what_is_refused_while_the_key_is_good_is_a_messages_fault(worker_with, pass_by, server):
    poison = Reply.status(401)
    server.rule(lambda r: poison if any(m["event"] == "E3" for m in r.messages) else None)
    worker = worker_with("good")
    worker.deliver(100)
    worker.buffer.append_many([message(number) for number in range(8)])
    number = 200
    while not worker.buffer.admin.snapshot().dead.messages:
        for batch in worker.claimed():
            worker.attempt(batch)
        number += 1
        worker.buffer.append(message(number))
        pass_by(10)
        worker.buffer.reap()
    assert {f"m{n}" for n in range(8)} - set(server.received) == {"m3"}
    assert len([r for r in server.requests if r.status == 401]) <= 8
