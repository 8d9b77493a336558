"""Calls while Redis is frozen, full or well, as each ``segment_on_unavailable`` says, and a spill
file whose disk is full, whose deletions fail, and whose processes are killed.

Redis is a process of its own, stopped and continued by signals; what it holds in the end is
compared with what each call was told.

SEGMENT_TEST_EXAMPLES and SEGMENT_TEST_STEPS make the run longer, as in the other state machines.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import time
import warnings
from collections import Counter
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from celery_segment import BufferFull, BufferUnavailable, runtime
from celery_segment.buffer import messages_of
from celery_segment.producer import Spill, fallback
from celery_segment.runtime import runtime_of
from celery_segment.signals import messages_dropped
from celery_segment.testing import EmbeddedRedis
from machines import run_machine
from support import drops, wait_until

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "2"))
STEPS = int(os.environ.get("SEGMENT_TEST_STEPS", "15"))

#: Seconds that a call waits for Redis, and for which Redis is left alone afterwards.
TIMEOUT, REST = 0.12, 0.02
#: Messages in a part that is given back, and in a batch: both small, so that there are several.
PART, BATCH = 7, 50


def name_of(message: bytes) -> str:
    return json.loads(message)["messageId"]


def names_in(client) -> Counter:
    keys = [b"{segment:default}:open", *client.keys("{segment:default}:batch:*")]
    contents = [content for key in keys if (content := client.get(key))]
    return Counter(name_of(bytes(m)) for content in contents for m in messages_of(content))


class Names:
    """Makes messages, each with a name of its own."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def new(self, number: int) -> list[bytes]:
        names = [f"m{self.made + n}" for n in range(number)]
        self.made += number
        return [json.dumps({"messageId": name, "x": "é" * 50}).encode() for name in names]


class Calls(Names, RuleBasedStateMachine):
    """Calls of one process to a Redis that may be frozen."""

    def __init__(self, app, server):
        super().__init__()
        self.server, self.client = server, server.client()
        self.client.flushall()
        self.runtime = runtime_of(app)
        self.store = self.runtime.producer("default")._store
        self.buffer = self.runtime.buffer("default")
        self.policy = self.buffer.source.on_unavailable
        self.is_frozen = False
        #: What each call was told of its messages.
        self.stored: list[bytes] = []
        self.unknown: list[bytes] = []
        self.spilled: list[bytes] = []
        self.lost: list[bytes] = []
        self.drops = Counter()
        self.refused = Counter()
        self.dropped_now = Counter()
        messages_dropped.connect(self.note_drop, weak=False)
        self.unknown_before = getattr(self.store, "unknown", 0)

    def note_drop(self, reason, messages, **_):
        self.dropped_now[reason] += messages

    @rule(number=st.integers(1, 3 * BATCH), one=st.booleans())
    def call(self, number, one):
        messages = self.new(1 if one else number)
        self.dropped_now.clear()
        unknown = getattr(self.store, "unknown", 0)
        try:
            self.store.append(messages[0]) if one else self.store.append_many(messages)
        except BufferUnavailable as error:
            assert self.policy == "raise"
            assert self.is_frozen
            self.told(messages, error.stored, error.unknown, self.lost)
            return
        if self.policy == "spill":
            unknown = self.store.unknown - unknown
            self.told(messages, 0, unknown if self.is_frozen else 0, self.spilled)
            return
        self.drops += self.dropped_now
        dropped = self.dropped_now.total()
        assert not (dropped and not self.is_frozen and not self.is_resting)
        uncertain = self.dropped_now["unknown"]
        self.told(messages, len(messages) - dropped, uncertain, self.lost)

    @rule(reason=st.sampled_from(["invalid", "unidentified"]))
    def refuse(self, reason):
        """A call is not valid, or its visitor has no id."""
        self.runtime.producer("default").drop(reason)
        self.refused[reason] += 1

    def told(self, messages, stored, unknown, rest):
        self.stored += messages[:stored]
        self.unknown += messages[stored : stored + unknown]
        rest += messages[stored + unknown :]

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self.store._rests_until + REST

    @precondition(lambda self: not self.is_frozen)
    @rule()
    def freeze(self):
        self.server.pause()
        self.is_frozen = True

    @precondition(lambda self: self.is_frozen)
    @rule()
    def thaw(self):
        self.server.resume()
        self.is_frozen = False
        self.client.ping()
        time.sleep(2 * REST)

    @precondition(lambda self: self.policy == "spill")
    @rule()
    def give_back(self):
        self.store.give_back()

    def teardown(self):
        if self.is_frozen:
            self.thaw()
        messages_dropped.disconnect(self.note_drop)
        wait_until(self.is_served)
        self.refuse("invalid")  # what Redis did not take before is counted with the next
        if self.policy == "spill":
            wait_until(lambda: not self.spill.waiting("default") or self.store.give_back() < 0)
        self.check_end()
        self.client.close()

    @property
    def spill(self) -> Spill:
        return self.store._spill

    def is_served(self) -> bool:
        """Make calls until one is stored, so that what was dropped is counted."""
        before = len(self.stored) + len(self.spilled)
        with suppress(BufferUnavailable):
            self.call(1, one=True)
        time.sleep(REST)
        return len(self.stored) + len(self.spilled) > before

    def check_end(self):
        found = names_in(self.client)
        wanted = {
            "stored": (1, 1, self.stored),
            "unknown": (
                int(self.policy == "spill"),
                2 if self.policy == "spill" else 1,
                self.unknown,
            ),
            "spilled": (1, 1, self.spilled),
            "lost": (0, 0, self.lost),
        }
        for what, (least, most, messages) in wanted.items():
            wrong = {n: found[n] for m in messages if not least <= found[n := name_of(m)] <= most}
            assert not wrong, f"{what}: {wrong}"
        snapshot = self.buffer.admin.snapshot()
        assert snapshot.accepted == found.total()
        assert snapshot.dropped == drops(**self.drops, **self.refused)


@pytest.fixture
def own():
    """A Redis that may be frozen."""
    with EmbeddedRedis(config={"appendonly": "no"}) as server:
        yield server


def run(machine):
    run_machine(machine, EXAMPLES, STEPS)


@pytest.mark.parametrize("policy", ["raise", "drop", "spill"])
def test_each_call_is_told_what_became_of_its_messages(
    make_app, own, policy, tmp_path, monkeypatch
):
    monkeypatch.setattr(fallback, "REST", REST)
    monkeypatch.setattr(fallback, "FULL_REST", REST)
    monkeypatch.setattr(runtime, "REST", REST)
    app = make_app(
        segment_redis_url=own.url,
        segment_redis_timeout=TIMEOUT,
        segment_on_unavailable=policy,
        segment_max_batch_messages=BATCH,
        **({"segment_spill_path": str(tmp_path / "spill")} if policy == "spill" else {}),
    )
    run(partial(Calls, app, own))


# ---------------------------------------------------------------- the spill file


class Spilled(Names, RuleBasedStateMachine):
    """A spill file that is given back to the buffer, while things go wrong.

    Messages are given back in the order in which they were spilled, each once: but for the part
    that a killed process had appended and not yet noted.
    """

    def __init__(self, buffer, redis, folder):
        super().__init__()
        redis.flushall()
        self.redis, self.buffer = redis, buffer
        self.path = str(folder / f"spill{len(list(folder.iterdir()))}")
        self.spill = self.opened()
        self.waiting: list[bytes] = []
        self.appended: list[str] = []  # in their order, as the buffer has them

    def opened(self) -> Spill:
        return Spill(self.path, 10**8, 0.05)

    @rule(number=st.integers(1, 30))
    def put(self, number):
        messages = self.new(number)
        self.spill.put("default", messages, {})
        self.waiting += messages

    @rule()
    def another_process(self):
        """What a process remembers ends with it."""
        self.spill = self.opened()

    @rule(parts=st.integers(1, 3))
    def give_back(self, parts):
        self.give(self.append_until(parts))

    @rule()
    def delete_nothing(self):
        """Others write to the file while it is given back: what is appended is not deleted."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            self.give(self.append_until(2, then=lambda: other.execute("BEGIN IMMEDIATE")))
            if other.in_transaction:
                other.execute("ROLLBACK")

    @rule()
    def write_nothing(self):
        """The disk is full from the first append on: neither a note's place nor a page grows."""
        with self.no_room() as fill:
            self.give(self.append_until(3, then=fill))

    @contextmanager
    def no_room(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill():
            # The note is written in place, within its size.
            size = Path(f"{self.path}-given").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

        try:
            yield fill
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @rule()
    def refuse_large_parts(self):
        """The buffer has room for three messages at a time."""
        append = self.append_until(2)

        def append_few(messages, attachments):
            if len(messages) > 3:
                raise BufferFull
            append(messages, attachments)

        self.give(append_few)

    @precondition(lambda self: self.waiting)
    @rule(noted=st.booleans())
    def kill(self, noted):
        """A process is killed when it has appended a part: before, or after, it is noted."""
        part = self.waiting[:PART]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # xdist's threads do not matter
            child = os.fork()
        if child == 0:
            self.end_in_child(noted)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        self.appended += [name_of(message) for message in part]
        if noted:
            del self.waiting[: len(part)]

    def end_in_child(self, noted):
        try:
            spill = self.opened()
            other = sqlite3.connect(self.path, isolation_level=None)

            def append(messages, attachments):
                if noted and other.in_transaction:
                    os.kill(os.getpid(), signal.SIGKILL)  # the second part: the first is noted
                self.buffer.append_part(messages, attachments)
                if not noted:
                    os.kill(os.getpid(), signal.SIGKILL)
                other.execute("BEGIN IMMEDIATE")  # nothing can be deleted from here on

            with suppress(BufferUnavailable):
                spill.give_back("default", append, PART)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)

    def append_until(self, parts, then=lambda: None):
        """Append so many parts; ``then`` does what goes wrong after the first."""
        done = []

        def append(messages, attachments):
            if len(done) == parts:
                raise BufferUnavailable("Redis went away")
            self.buffer.append_part(messages, attachments)
            done.append(len(messages))
            self.appended += map(name_of, messages)
            assert messages == self.waiting[: len(messages)], "another part than the oldest"
            del self.waiting[: len(messages)]
            if len(done) == 1:
                then()

        return append

    def give(self, append):
        with suppress(BufferUnavailable):
            self.spill.give_back("default", append, PART)

    @invariant()
    def redis_has_what_was_appended(self):
        assert names_in(self.redis) == Counter(self.appended)

    def teardown(self):
        done = []

        def append(messages, _):
            done.extend(messages)

        while self.spill.give_back("default", append, PART):
            pass
        assert done == self.waiting
        assert self.spill.waiting("default") == 0
        assert {*map(name_of, done), *self.appended} == {f"m{n}" for n in range(self.made)}


def test_what_is_spilled_is_given_back_once_whatever_fails(make_app, redis, tmp_path):
    app = make_app(segment_max_batch_messages=BATCH)
    run(partial(Spilled, runtime_of(app).buffer("default"), redis, tmp_path))
