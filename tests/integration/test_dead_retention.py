"""Dead letters are deleted once they are as old as they may become."""

from __future__ import annotations

import pytest

from celery_segment import Analytics
from operating import bury
from support import buffer_of, let_pass


@pytest.fixture
def buffer(app):
    return buffer_of(app)


@pytest.fixture
def app(make_app):
    return make_app(segment_dead_retention=3_600, segment_max_batch_messages=1)


def test_old_dead_letters_are_deleted_by_a_drain(app, buffer, redis):
    old = [bury(app, "E") for _ in range(3)]
    assert not buffer.due(0.0)
    let_pass(redis, 3_000)
    young = bury(app, "E")
    let_pass(redis, 500)
    assert not buffer.due(0.0)
    let_pass(redis, 101)
    assert buffer.due(0.0)
    drained = app.tasks["segment.drain"].apply(kwargs={"source": "default"})
    assert drained.result == "deleted old dead letters of 3 messages"
    assert [letter.id for letter in Analytics().dead_letters] == [young]
    assert not buffer.due(0.0)
    stats = Analytics().stats()
    assert (stats.purged, stats.dead.messages, stats.accepted) == (3, 1, 4)
    assert [key for i in old for key in redis.keys(f"{{segment:default}}:*:{i}")] == []


def test_few_at_a_time(app, buffer, redis, monkeypatch):
    monkeypatch.setattr("celery_segment.buffer.bounds.EXPIRE_BATCHES", 2)
    for _ in range(3):
        bury(app, "E")
    let_pass(redis, 3_601)
    assert [buffer.expire_dead() for _ in range(3)] == [2, 1, 0]


def test_delivering_in_this_process_deletes_them_too(app, redis):
    bury(app, "E")
    let_pass(redis, 3_601)
    assert Analytics(app=app).deliver(5) == 0
    assert [*Analytics().dead_letters] == []


def test_by_default_they_are_kept_for_ever(make_app, redis):
    app = make_app()
    bury(app, "E")
    let_pass(redis, 10**9)
    buffer = buffer_of(app)
    assert not buffer.due(0.0)
    assert buffer.expire_dead() == 0
    assert Analytics().stats().dead.messages == 1
