"""A Celery task that runs again gives the messages of its calls the ids that they had."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from base64 import b64decode
from uuid import UUID

import pytest
from celery import chain, chord, group
from django.utils.functional import SimpleLazyObject

from celery_segment import Analytics, BufferFull, identify, track
from celery_segment.analytics import Client
from celery_segment.calls import identity
from support import run_as_worker, stored


@pytest.fixture
def run(app, redis):
    """Run a function as a worker runs a task, as often as asked; return the ids of each run."""

    def run(body, *, times=2, settings=None, **request):
        app.conf.update(settings or {})
        made = []
        for _ in range(times):
            before = len(stored(redis))
            run_as_worker(app, body, **request)
            made.append([message["messageId"] for message in stored(redis)[before:]])
        return made

    return run


def delay(_):
    track.delay("u", "E", {"a": 1})


def direct(_):
    track("u", "E", {"a": 1})


def inert_options(_):
    track.apply_async(("u", "E", {"a": 1}), priority=3)


def in_batch(_):
    with Analytics().batch():
        track.delay("u", "E", {"a": 1})


def of_a_source(_):
    Analytics().track.delay("u", "E", {"a": 1})


def dropped_in(_):
    Client("testwritekeyk3pts3cr3t").track("u", "E", {"a": 1})


def mapped(_):
    list(map(track, ["u"], ["E"], [{"a": 1}]))


def awaited(_):
    asyncio.run(track.adelay("u", "E", {"a": 1}))


def awaited_in_a_block(_):
    async def block():
        async with Analytics().abatch():
            await track.adelay("u", "E", {"a": 1})

    asyncio.run(block())


def with_an_id_that_is_none(_):
    track.delay("u", "E", {"a": 1}, message_id=SimpleLazyObject(lambda: None))


WAYS = [
    with_an_id_that_is_none,
    awaited,
    awaited_in_a_block,
    delay,
    direct,
    inert_options,
    in_batch,
    of_a_source,
    dropped_in,
    mapped,
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_call_gives_the_same_id(run, way):
    (first,), (second,) = run(way)
    assert first == second
    assert UUID(first).version == 8
    assert run(delay, times=1) == [[first]]


def test_a_group_that_the_task_makes_has_the_same_ids(run):
    def body(_):
        group([track.s("u", "E", {"n": n}) for n in range(3)]).apply_async()

    first, second = run(body)
    assert len(set(first)) == 3
    assert first == second


def test_equal_messages_differ_by_their_ordinal(run):
    def body(_):
        for _ in range(3):
            track.delay("u", "E")
        track.delay("u", "F")

    first, second = run(body)
    assert first == second
    assert len(set(first)) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"event": "E"}, {"event": "F"}),
        ({"user_id": "v"}, {}),
        ({"anonymous_id": "a"}, {"anonymous_id": "b"}),
        ({"properties": {"a": 1}}, {"properties": {"a": "1"}}),
        ({"properties": {"a": 1}}, {"properties": {"a": 1.5}}),
        ({"context": {"ip": "192.0.2.1"}}, {"context": {"ip": "192.0.2.2"}}),
        ({"integrations": {"All": False}}, {}),
    ],
)
def test_different_messages_have_different_ids(run, one, other):
    given = {"user_id": "u", "event": "E"}
    ids = [run(lambda _, own=own: track.delay(**{**given, **own}), times=1) for own in (one, other)]
    assert ids[0] != ids[1]


def test_the_order_of_other_calls_does_not_matter(run):
    def body(names):
        return lambda _: [track.delay("u", name) for name in names]

    assert set(run(body("ABC"), times=1)[0]) == set(run(body("CAB"), times=1)[0])


def test_the_time_of_a_message_does_not_matter(run):
    ids = [
        run(lambda _, at=at: track.delay("u", "E", timestamp=at), times=1)
        for at in (None, "2026-11-23T07:00:00.123Z")
    ]
    assert ids[0] == ids[1]


def test_a_type_of_message_is_part_of_it(run):
    def body(_):
        identify.delay("u", {"a": 1})
        track.delay("u", "E")

    first, _ = run(body)
    assert len(set(first)) == 2


def test_ids_that_are_given_win(run):
    def body(_):
        track.delay("u", "E", message_id="mine")
        track.apply_async(("u", "E"), task_id="the task's")

    assert run(body) == [["mine", "the task's"]] * 2


@pytest.mark.parametrize(("mode", "same"), [("attempt", False), ("task", True), ("off", False)])
def test_a_retry_has_the_same_ids_where_the_task_has(run, mode, same):
    settings = {"segment_idempotency": mode}
    first = run(delay, times=1, settings=settings)
    assert (run(delay, times=1, retries=1) == first) is same


def test_off_gives_random_ids(run):
    (first,), (second,) = run(delay, settings={"segment_idempotency": "off"})
    assert first != second
    assert UUID(first).version == 4


def test_a_wrong_setting_says_what_it_may_be(make_app):
    make_app(segment_idempotency="always")
    with pytest.raises(Exception, match=r"segment_idempotency.*'attempt', 'task', 'off'"):
        track.delay("u", "E")


@pytest.mark.parametrize("other", [{"id": "id-2"}, {"replaced_task_nesting": 1}])
def test_another_task_has_other_ids(run, other):
    assert run(delay, times=1) != run(delay, times=1, **other)


def test_a_task_called_within_another_is_a_part_of_it(app, run):
    @app.task(shared=False)
    def inner():
        track.delay("u", "E")

    def body(_):
        inner()
        inner.apply()
        track("u", "E")

    first, second = run(body)
    assert first == second
    assert len(set(first)) == 3


def test_a_task_that_calls_itself_is_a_part_of_its_run(run):
    def body(self, depth=2):
        track.delay("u", "E")
        if depth:
            self(depth - 1)

    first, second = run(body)
    assert first == second
    assert len(set(first)) == 3


def test_an_eager_task_without_another_has_its_own_ids(app, redis):
    @app.task(shared=False, bind=True, max_retries=1)
    def eager(self):
        track.delay("u", "E")
        if not self.request.retries:
            raise self.retry(countdown=0)

    app.conf.segment_idempotency = "task"
    eager.apply(task_id="given")
    eager.apply(task_id="another")
    ids = [message["messageId"] for message in stored(redis)]
    assert len(ids) == 4
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.usefixtures("app")
def test_outside_of_a_task_ids_are_random(redis):
    for _ in range(2):
        track.delay("u", "E")
        track("u", "E")
    assert {UUID(message["messageId"]).version for message in stored(redis)} == {4}
    assert len({message["messageId"] for message in stored(redis)}) == 4


def test_tasks_of_two_threads_do_not_meet(app, redis):
    barrier = threading.Barrier(2)

    def body(_):
        for _ in range(2):
            barrier.wait()
            track.delay("u", "E")

    def run(name):
        app.set_current()
        run_as_worker(app, body, name, replaced_task_nesting=1)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    together = {message["messageId"] for message in stored(redis)}
    barrier = threading.Barrier(1)
    run("a")
    run("b")
    assert len(together) == 4
    assert {message["messageId"] for message in stored(redis)} == together


def test_a_call_that_is_made_again_after_an_error_is_the_same_message(redis, run):
    def body(_):
        for call in (track.delay, track, lambda *of: track.apply_async(of)):
            redis.config_set("maxmemory", 1)
            try:
                with pytest.raises(BufferFull):
                    call("u", "E")
            finally:
                redis.config_set("maxmemory", 0)
            call("u", "E")

    expected = run(lambda _: [track.delay("u", "E") for _ in range(3)], times=1)
    assert run(body, times=1) == expected


def blocking(calls):
    with Analytics().batch():
        for call in calls:
            track.delay(*call)


def awaiting(calls):
    async def block():
        async with Analytics().abatch():
            for call in calls:
                await track.adelay(*call)

    asyncio.run(block())


@pytest.mark.parametrize("block", [blocking, awaiting])
def test_a_block_that_is_run_again_after_an_error_has_the_same_messages(app, redis, run, block):
    # Of 1,002 messages of 0.4 KB, there is room for the first 500 or more, which are a part.
    app.conf.segment_max_buffer_bytes = 300_000
    calls = [("u", "E"), ("u", "E"), *(("u", "E", {"n": n, "a": "x" * 200}) for n in range(1_000))]
    kept = []

    def body(_):
        track.delay("u", "E")
        with pytest.raises(BufferFull) as raised:
            block(calls)
        kept.extend(message["messageId"] for message in stored(redis))
        assert len(kept) == 1 + raised.value.stored > 1
        redis.flushall()
        block(calls[:50])
        track.delay("u", "E")

    ((*again, last),) = run(body, times=1)
    assert again == kept[1:51]
    assert last not in kept


def test_a_block_within_a_block_is_run_again_alone(run):
    def body(_):
        with Analytics().batch():
            track.delay("u", "E")
            with pytest.raises(BufferFull), Analytics().batch():
                track.delay("u", "E")
                raise BufferFull("of another source")
            track.delay("u", "E")

    expected = run(lambda _: [track.delay("u", "E") for _ in range(2)], times=1)
    (made,) = run(body, times=1)
    assert [made[0], made[1]] == expected[0]
    assert made[2] == made[1]


def test_beyond_a_number_of_messages_ids_are_random(run, monkeypatch):
    monkeypatch.setattr(identity, "MOST", 2)

    def body(_):
        for name in "ABCA":
            track.delay("u", name)

    first, second = run(body)
    assert [one == other for one, other in zip(first, second, strict=True)] == [1, 1, 0, 1]
    assert len({*first, *second}) == 5


def test_sets_and_dicts_are_the_same_in_each_process():
    program = (
        "from celery_segment.messages import Track, content_of\n"
        "names = [f'n{number}' for number in range(20)]\n"
        "properties = {'set': set(names), **{name: 1 for name in set(names)}}\n"
        "print(content_of(Track(message_id='', timestamp='', event='E', properties=properties)))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(shown) == 1


def test_a_value_without_a_json_form_is_named(run):
    def body(_):
        with pytest.raises(ValueError, match=r"properties\.a"):
            track.delay("u", "E", {"a": object()})

    run(body)


@pytest.mark.parametrize(
    "canvas",
    [
        lambda: chord([track.s("u", "E"), track.s("u", "F")])(track.si("u", "Done")),
        lambda: chain(track.si("u", "E"), track.si("u", "F")).apply_async(),
        lambda: track.apply_async(("u", "E"), countdown=60),
    ],
    ids=["chord", "chain", "countdown"],
)
def test_what_goes_through_the_broker_has_the_same_ids_as_well(app, redis, run, canvas):
    app.conf.result_backend = app.conf.broker_url

    def body(_):
        canvas()

    def sent():
        bodies = [json.loads(message)["body"] for message in redis.lrange("celery", 0, -1)]
        return [json.loads(b64decode(body))[1]["message_id"] for body in bodies]

    run(body, times=1)
    first = sent()
    run(body, times=1)
    assert first
    assert sorted(sent()) == sorted(first * 2)
