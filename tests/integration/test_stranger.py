"""What someone who may write to the buffer's Redis can make a worker do.

The stranger of these tests has a client of that Redis alone, and writes what a settled batch's
callbacks look like. A worker takes them over, as it does from one that died. It may run a task
through the broker (``link``), in its own process (``link_error``), and overwrite a task's result
(a receipt).
"""

from __future__ import annotations

import json
import logging
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from celery import shared_task
from kombu.utils.json import dumps

from celery_segment import Analytics, ConfigurationError, track
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from celery_segment.worker.inprocess import take_back
from commands import ok
from support import buffer_of

# redis-py's, of what Celery's backend calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*setex:DeprecationWarning")

KEY, OTHER = "k" * 32, "o" * 32
RAN = []


@shared_task(name="tests.inline")
def inline(request, exc, _traceback):
    RAN.append(f"{request.id} {exc}")


@shared_task(name="tests.harm")
def harm(*arguments):
    """A task of the application, such as one that pays somebody."""


def signature(task, **more):
    empty = {"args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    return {"task": task, **empty, **more}


LINK = signature("tests.harm", args=["stranger"], immutable=True)
INLINE = signature("tests.inline")


class Stranger:
    """Has a client of the buffer's Redis, and nothing else."""

    def __init__(self, redis):
        self._redis = redis

    def settle(self, content, cause=""):
        """Store callbacks as those of a batch that a worker has settled."""
        data = content if isinstance(content, bytes) else dumps(content).encode()
        key = "{segment:default}:settled"
        fields = {"batch": "9", "count": 1, "bytes": 9, "cause": cause, "1": data}
        self._redis.hset(f"{key}:forged", mapping=fields)
        self._redis.zadd(key, {"forged": 1})

    def stored(self):
        """Return the callbacks that a call has stored."""
        for key in self._redis.keys("*callbacks*"):
            for value in self._redis.hvals(key):
                return value
        raise AssertionError(self._redis.keys("*"))


@pytest.fixture
def own():
    with EmbeddedRedis() as own:
        yield own


@pytest.fixture
def stranger(own):
    with closing(own.client()) as client:
        yield Stranger(client)


@pytest.fixture
def worker(make_app, own, redis, redis_server, caplog):
    """Make an application whose buffer is another Redis than its broker; be its worker."""

    class Worker:
        def start(self, **conf):
            RAN.clear()
            given = {"segment_redis_url": own.url, "result_backend": redis_server.url}
            self.app = make_app(**{**given, **conf})
            caplog.set_level(logging.ERROR, "celery_segment")
            return self

        def work(self):
            take_back(self.app, buffer_of(self.app))
            return self

        @property
        def did(self):
            """What happened: tasks published, tasks run here, results stored."""
            published = redis.llen("celery")
            results = len(redis.keys("celery-task-meta-*"))
            return published, len(RAN), results

        @property
        def refused(self):
            return Analytics().stats().refused_callbacks

    return Worker()


FORGED = {
    "link": ({"id": "t", "result": "m", "link": [LINK]}, ""),
    "link_error": ({"id": "t", "result": "m", "link_error": [INLINE]}, "500"),
    "receipt": ({"id": "t", "result": "m", "receipt": True}, ""),
    "receipt of a failure": ({"id": "t", "result": "m", "receipt": True}, "500"),
}
DID = {
    "link": (1, 0, 0),
    "link_error": (0, 1, 0),
    "receipt": (0, 0, 1),
    "receipt of a failure": (0, 0, 1),
}
SAFE = {
    "by default": {},
    "with a key": {"segment_signing_key": KEY},
    "with a name": {"segment_allowed_callbacks": ["tests.other"]},
    "with a key and one Redis": {"segment_signing_key": KEY, "one": True},
}


class TestForged:
    @pytest.mark.parametrize("what", FORGED)
    @pytest.mark.parametrize("conf", SAFE.values(), ids=SAFE)
    def test_it_does_nothing(self, worker, stranger, own, caplog, what, conf):
        conf = dict(conf)
        more = {"broker_url": own.url} if conf.pop("one", False) else {}
        worker.start(**conf, **more)
        stranger.settle(*FORGED[what])
        worker.work()
        assert worker.did == (0, 0, 0)
        assert worker.refused == 1
        (said,) = [record.getMessage() for record in caplog.records]
        assert "1 callback of batch 9 not run" in said
        # It is gone, and holds nothing up.
        assert Analytics().stats().uncalled_batches == 0
        assert "segment_callbacks_refused_total" in ok(worker.app, "metrics", "--once")

    @pytest.mark.parametrize("what", FORGED)
    def test_where_one_redis_is_both_it_is_no_gain(self, worker, stranger, own, what):
        """Who writes there may publish any task: this is what it was everywhere before."""
        worker.start(broker_url=own.url)
        stranger.settle(*FORGED[what])
        worker.work()
        published, ran, results = DID[what]
        assert worker.did[1:] == (ran, results)
        with closing(own.client()) as client:
            assert client.llen("celery") == published

    @pytest.mark.parametrize(
        "content",
        [
            b"signed:" + b"0" * 64 + b":" + json.dumps(FORGED["link"][0]).encode(),
            b"signed:",
            b"signed::",
            b"signed:\xff\xff:{}",
        ],
    )
    def test_a_signature_that_is_none(self, worker, stranger, content):
        worker.start(segment_signing_key=KEY)
        stranger.settle(content)
        assert worker.work().did == (0, 0, 0)

    @pytest.mark.parametrize(
        "given",
        [
            signature("tests.allowed", options={"link": [LINK]}),
            signature("tests.allowed", options={"link_error": LINK}),
            signature("celery.chain", subtask_type="chain", kwargs={"tasks": [LINK]}),
            signature("celery.group", subtask_type="group", kwargs={"tasks": [LINK]}),
            signature(
                "celery.chord",
                subtask_type="chord",
                kwargs={"header": [signature("tests.allowed")], "body": LINK},
            ),
            signature("tests.allowed", options={"chain": [LINK]}),
            signature("celery.map", subtask_type="xmap", kwargs={"task": LINK, "it": [1]}),
            {**LINK, "task": ["tests.allowed"]},
            {**LINK, "task": {"task": "tests.allowed"}},
            {"subtask_type": "group", "kwargs": {"tasks": [LINK]}},
            "tests.allowed",
            [signature("tests.allowed")],
        ],
    )
    def test_a_task_hidden_in_an_allowed_one(self, worker, stranger, given):
        worker.start(segment_allowed_callbacks=["tests.allowed"])
        stranger.settle({"id": "t", "result": "m", "link": [given]})
        assert worker.work().did == (0, 0, 0)
        assert worker.refused == 1


class TestOwn:
    """What a call stores runs as ever."""

    @pytest.mark.parametrize(
        ("caller", "conf"),
        [
            (KEY, {"segment_signing_key": KEY}),
            (KEY, {"segment_signing_key": f"{OTHER},{KEY}"}),
            (None, {"segment_allowed_callbacks": ["tests.harm"]}),
        ],
    )
    def test_what_is_signed_or_allowed_runs(self, worker, stranger, caller, conf):
        given = {"segment_signing_key": caller} if caller else conf
        worker.start(**given)
        options = {"ignore_result": False} if caller else {}
        track.apply_async(("u", "E"), link=harm.si("own"), **options)
        stored = stranger.stored()
        worker.start(**conf)
        stranger.settle(stored)
        assert worker.work().did == (1, 0, int(bool(caller)))
        assert worker.refused == 0

    def test_another_key_signs_nothing_here(self, worker, stranger):
        worker.start(segment_signing_key=OTHER)
        track.apply_async(("u", "E"), link=harm.si("own"))
        stored = stranger.stored()
        worker.start(segment_signing_key=KEY)
        stranger.settle(stored)
        assert worker.work().did == (0, 0, 0)
        assert worker.refused == 1

    @pytest.mark.parametrize("options", [{"link": LINK}, {"link_error": [INLINE]}, {}])
    def test_a_call_says_what_a_worker_would_not_run(self, worker, options):
        worker.start()
        options = options or {"ignore_result": False}
        with pytest.raises(ConfigurationError) as caught:
            track.apply_async(("u", "E"), **options)
        assert "set SEGMENT_SIGNING_KEY" in caught.value.hint
        assert Analytics().stats().accepted == 0
        track.delay("u", "E")  # without any it is as it was

    def test_the_key_is_shown_nowhere(self, worker):
        app = worker.start(segment_signing_key=KEY).app
        shown = f"{runtime_of(app).settings!r} {app.conf.humanize()} {app.bugreport()}"
        assert KEY not in shown


class TestPrepared:
    """A message of the broker says that a call has prepared it, so that a hook runs once."""

    @staticmethod
    def hook(message):
        RAN.append(message["event"])
        message["event"] += " scrubbed"
        return message

    @pytest.mark.parametrize("signature", [None, "", "0" * 64, ["x"]])
    def test_a_forged_one_does_not_pass_the_hook_by(self, make_app, redis, signature):
        RAN.clear()
        make_app(segment_signing_key=KEY, segment_before_send=self.hook)
        header = {"prepared": True, "signature": signature, "trace": ""}
        call = {"user_id": "u", "event": "E"}
        track.apply(kwargs=call, headers={"segment": header}, throw=True)
        assert RAN == ["E"]
        assert b'"E scrubbed"' in redis.get("{segment:default}:open")

    @pytest.mark.parametrize(
        "header",
        [
            "x",
            5,
            [1],
            {"trace": 5},
            {"trace": ["x"]},
            {"prepared": True, "trace": {"a": 1}, "receipt": 2},
        ],
    )
    def test_one_of_another_form_is_none(self, make_app, redis, header):
        RAN.clear()
        make_app(segment_before_send=self.hook)
        call = {"user_id": "u", "event": "E"}
        track.apply(kwargs=call, headers={"segment": header}, throw=True)
        assert b'"E scrubbed"' in redis.get("{segment:default}:open")

    @pytest.mark.parametrize("key", [None, KEY])
    def test_the_hook_runs_once_for_a_call(self, make_app, redis, key):
        RAN.clear()
        conf = {"segment_signing_key": key} if key else {}
        app = make_app(**conf, segment_before_send=self.hook, segment_context={"a": 1})
        deep = [{"é": None, "n": 1.5, "at": datetime(2026, 1, 1, tzinfo=timezone.utc)}]
        properties = {
            "deep": deep,
            "long": 10**20,
            "small": 1e-7,
            "exact": Decimal(1) / 3,
        }
        track.apply_async(("u", "E", properties), countdown=1)
        with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
            sent = queue.get(timeout=5)
            sent.ack()
        _, kwargs, _ = sent.payload
        track.apply(kwargs=kwargs, headers={"segment": sent.headers["segment"]}, throw=True)
        assert RAN == ["E"]
        assert b'"E scrubbed"' in redis.get("{segment:default}:open")
