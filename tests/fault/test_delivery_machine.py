"""Deliveries in any order, by workers with the right, an old or no write key, each message
answered in its own way: good ones are delivered, bad ones are dead, and callbacks are called once.

Redis, the endpoint and the steps of a delivery are real. Time is moved (``support.let_pass``),
for Redis and for what the workers remember.

SEGMENT_TEST_EXAMPLES and SEGMENT_TEST_STEPS make the run longer, as in the other state machine.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import partial
from itertools import count

import pytest
from celery import Task
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from kombu.exceptions import OperationalError

from celery_segment.buffer import Attachments, keys, messages_of
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.delivery.key import KeyRecord
from celery_segment.testing import Reply, SegmentServer
from celery_segment.worker import callbacks, slots, tasks
from machines import run_machine
from support import buffer_of, let_pass

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "6"))
STEPS = int(os.environ.get("SEGMENT_TEST_STEPS", "25"))

TAG = keys.prefix("default")
STATUSES = (302, 400, 401, 403, 404, 413, 429, 451, 500, 501, 503, 599)
#: Times that a worker remembers, of those that ``Slots`` keeps.
BATCHES = 1_000
REMEMBERED = (slots._UNTIL, slots._ACCEPTED, slots._REFUSED)
#: Rounds within which all is settled, and the seconds that pass in each: more than any pause.
ROUNDS, ROUND = 6 * STEPS, 400.0
#: In each round, one batch may show whether the endpoint works. In so many, one that holds nothing
#: bad, or the good half of one that was split, has had its turn.
TURNS = 2 * STEPS
#: Longer than the steps and these rounds take, so that others have been delivered in time; not
#: longer than all rounds.
RETRY_FOR = STEPS * 400.0 + TURNS * ROUND
#: Names of messages, which the endpoint counts over all examples.
NUMBERS = count()

PICK = st.integers(0, 9)
WORKER = st.sampled_from(["right", "right", "old", "none"])
#: What is attached to a message: callbacks that can be called, that fail, that cannot be decoded.
CALLBACKS = st.sampled_from(["", "", "good", "failing", "beside failing", "broken", "incomplete"])
MESSAGE = st.tuples(st.sampled_from([0, 0, 0, 0, 0, *STATUSES]), CALLBACKS)


class Application(Task):
    """The application's tasks: the broker that they are published to may be away."""

    abstract = True
    machine: Machine

    def apply_async(self, *args, **kwargs):
        if Application.machine.is_away:
            raise OperationalError("the broker is away")
        return super().apply_async(*args, **kwargs)


def delivered(message_id):
    Application.machine.called["delivered", message_id] += 1


def failed(task_id):
    Application.machine.called["failed", task_id] += 1


def hook(batch):
    """Report a settled batch; or find the broker away; or fail."""
    machine = Application.machine
    if machine.is_away:
        raise OperationalError("the broker is away")
    machine.reported[(batch.cause or "delivered").partition(":")[0]] += batch.messages
    raise RuntimeError("a hook that fails")


def poisoned(request):
    """Answer a request as the first bad message in it wants."""
    statuses = [int(message["event"]) for message in request.messages if message["event"] != "0"]
    return Reply.status(statuses[0]) if statuses and request.write_key == "right" else None


class Worker:
    """What the processes of a worker share, and do with a batch."""

    def __init__(self, app):
        self.app, self.buffer = app, buffer_of(app)
        self.slots = slots.Slots({"default": "default"}, 1.0)
        slots.share_slots(app, self.slots)
        self.key = KeyRecord(self.slots.key_times("default"))

    @property
    def leaves(self) -> str:
        return tasks._left_to_others(self.app, self.buffer)

    def forget(self):
        for which in REMEMBERED:
            self.slots.write("default", which, 0.0)
        for batch in range(BATCHES):
            self.slots.write_batch("default", batch, 0.0)

    def let_pass(self, seconds):
        for which in REMEMBERED:
            if at := self.slots.read("default", which):
                self.slots.write("default", which, at - seconds)
        for batch in range(BATCHES):
            if at := self.slots.read_batch("default", batch):
                self.slots.write_batch("default", batch, at - seconds)


class Machine(RuleBasedStateMachine):
    def __init__(self, redis, workers):
        super().__init__()
        redis.delete(*redis.keys(f"{TAG}*"), "none")
        self.redis, self.workers = redis, workers
        self.buffer = workers["right"].buffer
        for worker in workers.values():
            worker.forget()
        Application.machine = self
        self.now = 0.0
        self.good, self.bad, self.damaged = set(), set(), set()
        self.attached: dict[str, str] = {}
        self.retries: list[tuple[float, str]] = []
        self.called, self.reported, self.is_away = Counter(), Counter(), False
        #: When the old key was refused first, and when anybody delivered last.
        self.refused: float | None = None
        self.delivered: float | None = None
        self.rests_until = -1.0
        self.has_lost_a_record = False

    # ------------------------------------------------------------ calls

    @rule(drawn=st.lists(MESSAGE, min_size=1, max_size=8))
    def append(self, drawn):
        messages, attachments = [], {}
        for place, (status, kind) in enumerate(drawn):
            name = f"m{next(NUMBERS)}"
            (self.bad if status else self.good).add(name)
            message = {"type": "track", "messageId": name, "userId": "u", "event": str(status)}
            messages.append(json.dumps(message).encode())
            if kind:
                self.attached[name] = kind
                attachments[place] = Attachments(self.callbacks_of(name, kind))
        self.buffer.append_many(messages, attachments)

    def callbacks_of(self, name, kind) -> bytes:
        app = self.workers["right"].app
        of = {what: [app.tasks[f"machine.{what}"].s()] for what in ("delivered", "failed")}
        own = {"id": name, "result": name, "link": of["delivered"], "link_error": of["failed"]}
        match kind:
            case "broken":
                return b"\xff{"
            case "incomplete":
                del own["result"]
            case "failing":
                own |= {"link": [5], "link_error": [5]}
            case "beside failing":
                own |= {"link": [5, *own["link"]], "link_error": [5, *own["link_error"]]}
        return json.dumps(own).encode()

    # ------------------------------------------------------------ workers

    @rule(who=WORKER, limit=st.integers(1, 3), dies=st.sampled_from(["", "", "claimed", "settled"]))
    def drain(self, who, limit, dies):
        self.drain_some(who, limit, dies)

    def drain_some(self, who, limit, dies="") -> bool:
        """Drain as the worker's task does; return whether there was something."""
        worker = self.workers[who]
        if self.leaves(who):
            return False
        _, uncalled = worker.buffer.reap()
        for settled in worker.buffer.uncalled() if uncalled else ():
            callbacks.run(worker.app, worker.buffer, settled)
        claimed = worker.buffer.claim(limit)
        for batch in claimed:
            if dies != "claimed":
                self.attempt(who, batch.id, dies)
        return bool(claimed)

    @rule()
    def drain_with_an_old_key_beside_the_right_one(self):
        for who in ("old", "right", "old"):
            self.append([(0, "")])
            self.drain_some(who, 1)
            self.time_passes(40.0)

    @precondition(lambda self: self.retries)
    @rule(who=WORKER)
    def retry(self, who):
        """The task of a retry comes to any worker; it is lost where none takes it in time."""
        due = [one for one in self.retries if one[0] <= self.now]
        self.retries = [one for one in self.retries if one not in due]
        for _, batch in due:
            if self.leaves(who):
                self.workers[who].buffer.release(batch)
            else:
                self.attempt(who, batch, "")

    def leaves(self, who) -> bool:
        found = bool(self.workers[who].leaves)
        if who == "none":
            assert found
        if who == "old":
            assert found == (self.rests_until > self.now)
        return found

    def attempt(self, who, batch, dies):
        worker = self.workers[who]
        before, gate = self.buffer.admin.snapshot(), self.redis.get(f"{TAG}:gate")
        report = attempt_delivery(worker.buffer, batch, worker.key)
        after = self.buffer.admin.snapshot()
        if who == "old":
            self.check_old_key(before, after, gate, report)
        if after.delivered.messages > before.delivered.messages:
            self.delivered = self.now
        if report.rests_for:
            worker.slots.rest("default", report.rests_for)
            self.rests_until = self.now + report.rests_for if who == "old" else self.rests_until
        if report.retry_in is not None:
            self.retries.append((self.now + report.retry_in, batch))
        if report.settled is not None and not dies:
            callbacks.run(worker.app, worker.buffer, report.settled)

    def check_old_key(self, before, after, gate, report):
        """A worker whose key is refused neither delivers nor buries, nor stops those that can."""
        assert after.delivered == before.delivered
        assert after.dead == before.dead
        if after.attempts.get("401", 0) == before.attempts.get("401", 0) and not report.rests_for:
            return  # no request was made
        others_deliver = (
            None not in (self.refused, self.delivered) and self.delivered > self.refused
        )
        if others_deliver:
            assert self.redis.get(f"{TAG}:gate") == gate
            assert after.retries == before.retries
            assert report.rests_for
        self.refused = self.now if self.refused is None else self.refused

    # ------------------------------------------------------------ faults

    @rule(seconds=st.sampled_from([1.0, 40.0, 400.0]))
    def time_passes(self, seconds):
        let_pass(self.redis, seconds)
        for worker in self.workers.values():
            worker.let_pass(seconds)
        self.now += seconds

    @rule(away=st.sampled_from([True, True, False]))
    def broker(self, away):
        self.is_away = away

    @rule(pick=PICK, what=st.sampled_from(["body", "record", "tail"]))
    def harm(self, pick, what):
        """A hand, or an eviction, takes from a batch that waits."""
        places = (f"{TAG}:{place}" for place in ("ready", "retrying"))
        batches = [i.decode() for place in places for i in self.redis.zrange(place, 0, -1)]
        if not batches:
            return
        batch = batches[pick % len(batches)]
        if what == "record":
            self.redis.delete(f"{TAG}:meta:{batch}")
            self.has_lost_a_record = True
            return
        key = f"{TAG}:batch:{batch}"
        content = self.redis.get(key)
        if content is None or not content.endswith(b","):
            return  # it is harmed already
        names = {json.loads(bytes(message))["messageId"] for message in messages_of(content)}
        self.damaged |= names
        self.good -= names
        self.bad -= names
        if what == "body":
            self.redis.delete(key)
        else:
            self.redis.set(key, content[:-9])

    # ------------------------------------------------------------ what always holds

    @invariant()
    def each_message_is_counted_once(self):
        s = self.buffer.admin.snapshot()
        total = s.waiting + s.delivered.messages + s.dead.messages + s.purged + s.damaged
        assert s.accepted == total == len(self.good | self.bad | self.damaged)
        assert max(self.called.values(), default=1) == 1

    def teardown(self):
        """With a worker that has the right key, all is settled while traffic goes on."""
        self.is_away = False
        for _ in range(ROUNDS):
            self.time_passes(ROUND)
            self.append([(0, "")])
            for who in ("right", "old", "none"):
                if self.retries:
                    self.retry(who)
                while self.drain_some(who, 3):
                    pass
            figures = self.buffer.admin.snapshot()
            if not figures.waiting and not figures.uncalled_batches:
                break
        else:
            raise AssertionError(f"not settled: {figures}")
        self.check_end(figures)

    def check_end(self, figures):
        received = {name: self.server.received[name] for name in self.good}
        assert received == dict.fromkeys(self.good, 1)
        assert not any(self.server.received[name] for name in self.bad | self.damaged)
        letters = [
            json.loads(message)["messageId"]
            for letter in self.buffer.admin.dead_letters(limit=1000)
            for message in self.buffer.admin.messages(letter.id)
        ]
        assert sorted(letters) == sorted(self.bad)
        assert figures.damaged == len(self.damaged)
        assert figures.gate.state == "open"
        callable_ones = {
            n for n, kind in self.attached.items() if kind in ("good", "beside failing")
        }
        expected = {("delivered", name) for name in callable_ones & self.good}
        expected |= {("failed", name) for name in callable_ones & (self.bad | self.damaged)}
        assert self.called == Counter(expected)
        damaged = self.reported.pop("damaged", 0)
        assert damaged == len(self.damaged) or (
            self.has_lost_a_record and damaged < len(self.damaged)
        )
        assert self.reported.pop("delivered", 0) == len(self.good)
        assert self.reported.total() == len(self.bad)


@pytest.fixture
def worker_of(make_app):
    def make(key, server):
        app = make_app(
            segment_write_key=key,
            segment_host=server.url,
            segment_on_delivered=hook,
            segment_on_failed=hook,
            segment_max_batch_messages=6,
            segment_lease=30.0,
            segment_timeout=5.0,
            segment_retry_for=RETRY_FOR,
            segment_max_retries=5,
            task_always_eager=True,
        )
        for function in (delivered, failed):
            app.task(function, name=f"machine.{function.__name__}", base=Application)
        return Worker(app)

    return make


def test_each_message_ends_as_its_answer_says_whoever_delivers(redis, worker_of):
    with SegmentServer(write_keys=["right"]) as server:
        server.rule(poisoned)
        workers = {
            who: worker_of({"right": "right", "old": "wrong", "none": None}[who], server)
            for who in ("right", "old", "none")
        }
        Machine.server = server
        run_machine(partial(Machine, redis, workers), EXAMPLES, STEPS)
