"""Transitions in any order, on a real Redis, held to a model: nothing lost, doubled or stray.

The clock is the server's, and nobody waits for it: where time is to pass, it is
moved (``support.let_pass``). Durations are hours, so that the seconds a run really
takes never decide anything.

SEGMENT_TEST_EXAMPLES and SEGMENT_TEST_STEPS make the run longer: 200 and 60, say.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celery_segment.buffer import (
    ENVELOPE,
    Attachments,
    BatchRef,
    Closed,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    Stale,
    buffer_of,
    keys,
)
from celery_segment.buffer import buffer as transitions
from celery_segment.buffer.body import is_packed, unpacked
from support import let_pass

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "60"))
STEPS = int(os.environ.get("SEGMENT_TEST_STEPS", "50"))

HOUR = 3600.0
#: More than the real time that an example takes, less than any difference that decides.
DRIFT = 60.0
LEASE = 2 * HOUR
INTERVAL = HOUR
FLUSH_AT = 3
MAX_INFLIGHT = 3
MAX_MESSAGES = 5
MAX_BYTES = 33_000
#: Of the buffer's own constants, so that a few batches are a backlog.
BACKLOG, YOUNGEST, AT_ONCE = 4, 2, 3
BREAKER = (2, HOUR, 3 * HOUR)

TAG = keys.prefix("default")
#: Each key and its type, as the docstring of `keys` has them.
KINDS = dict(re.findall(r"^    :(\S+) +(string|hash|zset)\b", keys.__doc__, re.MULTILINE))
#: What lies beside a message, or nothing: bytes that the buffer does not look into.
BESIDE = st.builds(
    Attachments,
    st.sampled_from([b"", b"", b'{"link": 1}', b'{"link_error": "\xc3\xa9"}']),
    st.sampled_from([b"", b"", b"00-ab-cd-01", b"00-ef-cd-00"]),
)
UNKNOWN = ["nonsense", "", "999", "1.1.2.1", "0"]

#: Every key of the source: its name, type, milliseconds to live, and content.
DUMP = """
local read = {string = {'GET'}, hash = {'HGETALL'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
local found = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local command = read[kind] or {'DUMP'}
  local content = redis.call(command[1], key, unpack(command, 2))
  table.insert(found, {key, kind, redis.call('PTTL', key), content})
end
return found
"""
MESSAGE = st.tuples(
    st.text(max_size=6),
    st.sampled_from(["a", "é", "中", "😀"]),
    st.sampled_from([0, 0, 0, 9, 700, 8_000, 16_000, 32_000]),
    BESIDE,
)
PICK = st.integers(0, 9)
#: What an attempt is counted under, if it is.
STATUS = st.sampled_from(["200", "503", "timeout", ""])


def near(seconds: float):
    return pytest.approx(seconds, abs=DRIFT)


def stored(messages: list[bytes]) -> bytes:
    return b"".join(message + b"," for message in messages)


@dataclass
class Sealed:
    """A batch as the model knows it."""

    id: str
    messages: list[bytes]
    since: float
    place: str = "ready"
    waits: bool = False  # claimed, and no delivery has begun
    packed: bool = False
    token: str | None = None
    deadline: float = 0.0
    attempts: int = 0
    requests: int = 0
    began: float | None = None
    cause: str = ""

    @property
    def number(self) -> int:
        return int(self.id.split(".")[0])

    @property
    def reference(self) -> BatchRef:
        return BatchRef(self.id, len(self.messages), len(stored(self.messages)))


class Machine(RuleBasedStateMachine):
    def __init__(self, redis, buffer):
        super().__init__()
        self.redis, self.buffer = redis, buffer
        redis.delete(*redis.keys(f"{TAG}*"), "none")
        self.now = 0.0
        self.accepted: dict[str, bytes] = {}
        self.attachments: dict[bytes, Attachments] = {}  # the messages that have something
        self.settled: dict[str, tuple[Settled, float]] = {}  # not called; until when left alone
        self.open: list[bytes] = []
        self.open_since = 0.0
        self.sealed = 0
        self.packed_to = 0  # up to this number it was tried
        self.batches: dict[str, Sealed] = {}
        self.delivered: list[bytes] = []
        self.purged: list[bytes] = []
        self.count = Counter()
        self.attempts = Counter()
        self.paused = False
        self.gate: tuple[float, str, str] = (0.0, "", "")  # until; what; cause
        self.probe: tuple[float, str] = (0.0, "")  # until; batch
        self.tick_until = 0.0
        self.failures, self.trips = 0, Counter()
        self.begun: list[Lease] = []  # all that ever were
        self.lost: list[Lease] = []  # of these, those whose process is gone
        self.mark_at: int | None = None

    # ------------------------------------------------------------ the model

    def at(self, place: str) -> list[Sealed]:
        found = [batch for batch in self.batches.values() if batch.place == place]
        return sorted(found, key=lambda batch: (batch.number, batch.id))

    def holds(self, held: Lease) -> bool:
        return held.id in self.batches and self.batches[held.id].token == held.token

    @property
    def holders(self) -> list[Lease]:
        return [held for held in self.begun if self.holds(held) and held not in self.lost]

    @property
    def stale(self) -> list[Lease]:
        return [held for held in self.begun if not self.holds(held)]

    def closed_for(self) -> float | None:
        return None if self.paused else max(self.gate[0] - self.now, 0.0)

    def own(self, messages: list[bytes], what: str = "callbacks") -> dict[int, bytes]:
        """Return the callbacks, or traces, of messages by their places, from 1 on."""
        found = (getattr(self.attachments.get(m, Attachments()), what) for m in messages)
        return {place: content for place, content in enumerate(found, 1) if content}

    def settle(self, found: Settled | None, how: str, batch: Sealed, cause: str | None) -> None:
        """Check what a settlement gives to be called, and remember it."""
        told = getattr(self.buffer.source, "on_failed" if cause else "on_delivered") is not None
        own = self.own(batch.messages)
        if not own and not told:
            assert found is None
            return
        assert bytes(unpacked(found.body)) == (stored(batch.messages) if told else b"")
        body = found.body
        count, size = batch.reference[1:]
        name = f"{how}:{batch.id}"
        assert Counter(found.callbacks) == Counter(own.values())
        assert found == Settled(name, batch.id, cause, found.callbacks, body, count, size)
        self.settled[name] = (found, self.now + LEASE)

    def store(self, message: bytes) -> None:
        size = len(stored([*self.open, message])) - 1 + len(b"".join(ENVELOPE))
        if self.open and (len(self.open) == MAX_MESSAGES or size > MAX_BYTES):
            self.seal()
        if not self.open:
            self.open_since = self.now
        self.open.append(message)

    def seal(self) -> None:
        self.sealed += 1
        name = str(self.sealed)
        self.batches[name] = Sealed(name, self.open, self.open_since)
        self.open = []

    def packable(self) -> list[str]:
        ready = self.at("ready")
        if len(ready) < BACKLOG:
            return []
        old = range(self.packed_to + 1, self.sealed - YOUNGEST + 1)
        return [batch.id for batch in ready if batch.number in old][:AT_ONCE]

    def open_is_due(self, messages: int, age: float) -> bool:
        waits = len(self.open)
        return waits > 0 and (waits >= messages or self.now - self.open_since >= age)

    def endpoint_answered(self) -> None:
        self.failures, self.trips = 0, Counter()
        self.probe = (0.0, "")

    def end_probe_of(self, batch: Sealed) -> None:
        if self.probe[1] == batch.id:
            self.probe = (0.0, "")

    def closed_to(self, batch: Sealed) -> float | None:
        """For how long a begin finds the source closed; make the batch the probe if need be."""
        closed = self.closed_for()
        if closed == 0 and self.trips.total():
            if self.probe[0] <= self.now:
                self.probe = (self.now + LEASE, batch.id)
            elif self.probe[1] != batch.id:
                closed = self.probe[0] - self.now
        return closed

    # ------------------------------------------------------------ Redis

    def dump(self) -> dict[str, tuple]:
        """Return the type, the seconds to live and the content of every key of the source."""
        found = {}
        for key, kind, left, content in self.redis.eval(DUMP, 1, TAG):
            value = content
            if isinstance(content, list):
                pairs = zip(content[::2], content[1::2], strict=True)
                scores = kind == b"zset"
                value = {i.decode(): float(s) for i, s in pairs} if scores else dict(pairs)
            found[key.decode().removeprefix(f"{TAG}:")] = (kind.decode(), left / 1000, value)
        return found

    def unchanged(self, call):
        """Call what is to change nothing at all."""
        before = {n: (kind, near(left), v) for n, (kind, left, v) in self.dump().items()}
        try:
            return call()
        finally:
            assert self.dump() == before, "it changed something"

    def new_message(self, drawn: tuple[str, str, int, Attachments]) -> bytes:
        text, character, size, attachments = drawn
        name = f"m{len(self.accepted)}"
        padding = character * (size // len(character.encode()))
        content = {"messageId": name, "x": text + padding}
        message = self.accepted[name] = json.dumps(content, ensure_ascii=False).encode()
        if any(attachments):
            self.attachments[message] = attachments
        return message

    # ------------------------------------------------------------ calls

    @rule(drawn=MESSAGE)
    def append(self, drawn):
        message = self.new_message((*drawn[:3], Attachments()))
        self.buffer.append(message)
        self.store(message)

    @initialize(messages=st.integers(0, 20), claimed=st.integers(0, 3), tripped=st.booleans())
    def in_the_midst_of_work(self, messages, claimed, tripped):
        """Hypothesis leaves many rules out of a run: without a start few runs get anywhere."""
        attachments = [Attachments(), Attachments(b"[]", b"00-12-34-01")]
        self.append_all([(f"é{n}", "中", 40, attachments[n % 2]) for n in range(messages)])
        if claimed:
            self.claim_some(claimed, whatever_waits=True, begin=True)
        if tripped and self.holders:
            self.retry(pick=0, what="refused", hours=0, status="401")
            self.time_passes(hours=1)
            self.begin(pick=0, twice=True)  # as the probe

    @rule(drawn=st.lists(MESSAGE, max_size=12))
    def append_many(self, drawn):
        self.append_all(drawn)

    def append_all(self, drawn):
        messages = [self.new_message(one) for one in drawn]
        attachments = {
            place: self.attachments[m] for place, m in enumerate(messages) if m in self.attachments
        }
        self.buffer.append_many(messages, attachments)
        for message in messages:
            self.store(message)

    # ------------------------------------------------------------ draining

    @rule(limit=st.integers(1, 5), whatever_waits=st.booleans(), begin=st.booleans())
    def claim(self, limit, whatever_waits, begin):
        """Claim, and begin what was claimed; or leave that to later steps, or for ever."""
        self.claim_some(limit, whatever_waits=whatever_waits, begin=begin)

    def claim_some(self, limit, *, whatever_waits, begin):
        expected = []
        if self.closed_for() == 0:
            room = min(limit, MAX_INFLIGHT - len(self.at("inflight")))
            due = (1, 0) if whatever_waits else (FLUSH_AT, INTERVAL)
            if len(self.at("ready")) < room and self.open_is_due(*due):
                self.seal()
            for batch in self.at("ready")[:room]:
                batch.place, batch.deadline, batch.waits = "inflight", self.now + LEASE, True
                expected.append(batch.reference)
        found = self.buffer.claim(limit, whatever_waits=whatever_waits)
        assert found == expected
        for batch in expected if begin else ():
            self.begin_one(self.batches[batch.id], twice=True)

    @precondition(lambda self: any(batch.waits for batch in self.batches.values()))
    @rule(limit=st.integers(1, 3))
    def follow(self, limit):
        """A delivery goes on: with what was claimed and waits, before anything is claimed."""
        waiting = [batch for batch in self.at("inflight") if batch.waits]
        found = self.buffer.follow(limit)
        if self.closed_for() != 0:
            assert found == []
            return
        assert found == [waiting[0].reference]
        waiting[0].waits = False
        self.begin_one(waiting[0], twice=False)

    @precondition(lambda self: self.at("inflight"))
    @rule()
    def reap(self):
        expected = []
        for batch in self.at("inflight"):
            if batch.deadline <= self.now:
                batch.token, batch.deadline, batch.waits = None, self.now + LEASE, True
                expected.append(batch.reference)
        self.tick_until = 0.0
        self.count["takeovers"] += len(expected)
        found, uncalled = self.buffer.reap()
        assert sorted(found) == sorted(expected)
        assert uncalled == any(until <= self.now for _, until in self.settled.values())

    # ------------------------------------------------------------ delivering

    @precondition(lambda self: self.at("inflight"))
    @rule(pick=PICK, twice=st.booleans())
    def begin(self, pick, twice):
        """Begin any batch in flight, whoever holds it."""
        inflight = self.at("inflight")
        self.begin_one(inflight[pick % len(inflight)], twice)

    def begin_one(self, batch, twice):
        token = f"t{len(self.begun)}"
        begin = partial(self.buffer.begin, batch.id)
        if batch.token and batch.deadline > self.now:
            assert self.unchanged(lambda: begin(token)) == LeasedElsewhere()
            return
        found, closed = begin(token), self.closed_to(batch)
        batch.waits = False
        if closed != 0:
            assert isinstance(found, Closed), "a closed source is to put the batch back"
            assert found.seconds == (closed and near(closed))
            batch.place, batch.token = "ready", None
            return
        batch.began = self.now if batch.began is None else batch.began
        assert bytes(unpacked(found.body)) == stored(batch.messages)
        assert is_packed(found.body) == batch.packed
        assert found == Lease(
            batch.id,
            token,
            found.body,
            *batch.reference[1:],
            batch.attempts,
            batch.requests,
            near(self.now - batch.began),
            len(self.own(batch.messages, "trace")),
        )
        assert self.buffer.traces(found) == [*self.own(batch.messages, "trace").values()]
        batch.requests += 1
        batch.token, batch.deadline = token, self.now + LEASE
        self.begun.append(found)
        if twice:
            assert self.unchanged(lambda: begin("another")) == LeasedElsewhere()

    @precondition(lambda self: self.sealed)
    @rule(pick=PICK)
    def begin_what_is_not_in_flight(self, pick):
        elsewhere = [b.id for b in self.batches.values() if b.place != "inflight"]
        settled = [held.id for held in self.begun if held.id not in self.batches]
        names = [*elsewhere, *settled, *UNKNOWN]
        name = names[pick % len(names)]
        assert self.unchanged(lambda: self.buffer.begin(name, "another")) == Gone()

    @precondition(lambda self: self.holders)
    @rule(pick=PICK, status=STATUS)
    def ack(self, pick, status):
        held = self.holders[pick % len(self.holders)]
        found = self.buffer.ack(held, status)
        self.attempts[status] += 1
        self.settle(found, "delivered", self.batches[held.id], None)
        # What counts as delivered is what the holder was given to post.
        posted = json.loads(b"[%b]" % unpacked(held.body)[:-1])
        self.delivered += [self.accepted[message["messageId"]] for message in posted]
        assert stored(self.batches.pop(held.id).messages) == unpacked(held.body)
        self.count["delivered_batches"] += 1
        self.endpoint_answered()

    @precondition(lambda self: self.holders)
    @rule(
        pick=PICK,
        what=st.sampled_from(["failure", "failure", "asked", "refused"]),
        hours=st.sampled_from([0, 0, 1, 3]),
        status=STATUS,
    )
    def retry(self, pick, what, hours, status):
        held = self.holders[pick % len(self.holders)]
        batch = self.batches[held.id]
        closed, wait, tripped = max(self.gate[0] - self.now, 0.0), hours * HOUR, 0
        cause = f"{what} é {held.token}"
        if what == "asked":
            if closed and abs(wait - closed) < 2 * DRIFT:
                wait += 4 * DRIFT  # one of the two is plainly the longer
            close_for = wait
        else:
            self.failures += 1
            fails = what == "refused" or self.trips.total() or self.failures >= BREAKER[0]
            close_for = 0.0
            if closed == 0 and fails:
                close_for = min(BREAKER[1] * 2 ** self.trips[what], BREAKER[2])
                self.trips[what] += 1
                tripped = self.trips[what]
        if close_for > closed:
            self.gate = (self.now + close_for, what, cause)
        found = self.buffer.retry(held, what, wait, cause, status, breaker=BREAKER)
        self.attempts[status] += 1
        wait = max(wait, self.gate[0] - self.now)
        assert found == (near(wait), tripped)
        batch.token, batch.deadline, batch.cause = None, self.now + wait + LEASE, cause
        batch.attempts += what == "failure"
        self.count["retries"] += 1
        self.end_probe_of(batch)

    @precondition(lambda self: any(held.messages > 1 for held in self.holders))
    @rule(pick=PICK, status=STATUS)
    def split(self, pick, status):
        several = [held for held in self.holders if held.messages > 1]
        held = several[pick % len(several)]
        self.buffer.split(held, status)
        self.attempts[status] += 1
        batch = self.batches.pop(held.id)
        half = len(batch.messages) // 2
        for suffix, part in ((".1", batch.messages[:half]), (".2", batch.messages[half:])):
            self.batches[held.id + suffix] = Sealed(held.id + suffix, part, batch.since)
        self.count["splits"] += 1
        self.endpoint_answered()

    @precondition(lambda self: self.holders)
    @rule(pick=PICK, answered=st.booleans(), status=STATUS)
    def bury(self, pick, answered, status):
        held = self.holders[pick % len(self.holders)]
        batch = self.batches[held.id]
        cause, text = f"400 ü {held.token}", "no such user" if answered else ""
        found = self.buffer.bury(held, cause, text, status, answered=answered)
        self.settle(found, "dead", batch, cause)
        self.attempts[status] += 1
        self.count["buried"] += held.messages
        reason = f"{cause}: {text}" if text else cause
        batch.place, batch.token, batch.cause = "dead", None, reason
        self.end_probe_of(batch)
        if answered:
            self.endpoint_answered()

    @precondition(lambda self: self.settled)
    @rule(pick=PICK)
    def called(self, pick):
        name = [*self.settled][pick % len(self.settled)]
        self.buffer.called(self.settled.pop(name)[0])

    @precondition(lambda self: self.settled)
    @rule()
    def uncalled(self):
        """What a worker that is gone was to call is taken over by another."""
        found = {settled.name: settled for settled in self.buffer.uncalled()}
        assert found.keys() == {n for n, (_, until) in self.settled.items() if until <= self.now}
        for name, settled in found.items():
            expected, _ = self.settled[name]
            assert Counter(settled.callbacks) == Counter(expected.callbacks)
            # A dead letter may be purged, or replayed and split, before anybody is told.
            body = settled.body if expected.cause else expected.body
            assert settled == replace(expected, callbacks=settled.callbacks, body=body)
            if expected.id in self.batches:
                assert bytes(unpacked(body)) == stored(self.batches[expected.id].messages)
            self.settled[name] = (expected, self.now + LEASE)

    # ------------------------------------------------------------ faults

    @precondition(lambda self: self.holders)
    @rule(pick=PICK)
    def crash(self, pick):
        """A holder's process is gone, or hangs; Redis does not know."""
        self.lost.append(self.holders[pick % len(self.holders)])

    @precondition(lambda self: any(map(self.holds, self.lost)))
    @rule()
    def come_back(self):
        """A process that hung goes on, and nobody has taken its batch over."""
        self.lost = [held for held in self.lost if not self.holds(held)]

    @precondition(lambda self: self.stale)
    @rule(pick=PICK)
    def a_stale_holder_is_refused(self, pick):
        held, buffer = self.stale[-1 - pick % len(self.stale)], self.buffer
        attempts = [
            lambda: buffer.ack(held, "200"),
            lambda: buffer.bury(held, "stale", status="400", answered=True),
            lambda: buffer.bury(held, "stale", status="400", answered=False),
            *(
                lambda what=what: buffer.retry(held, what, HOUR, "stale", "503", breaker=BREAKER)
                for what in ("failure", "asked", "refused")
            ),
        ]
        if held.messages > 1:
            attempts.append(lambda: buffer.split(held, "400"))
        for attempt in attempts:
            with pytest.raises(Stale):
                self.unchanged(attempt)

    @rule(hours=st.integers(1, 4))
    def time_passes(self, hours):
        let_pass(self.redis, hours * HOUR)
        self.now += hours * HOUR

    # ------------------------------------------------------------ operating

    @rule(what=st.sampled_from(["due", "mark", "pause", "resume", "script_flush"]))
    def operate(self, what):
        """One rule for what would else crowd out the deliveries."""
        getattr(self, what)()

    def due(self):
        inflight = self.at("inflight")
        waits = any(batch.deadline <= self.now for batch in inflight)
        waits = waits or any(until <= self.now for _, until in self.settled.values())
        assert self.buffer.packable() == self.packable()
        waits = waits or bool(self.packable())
        if not waits and self.closed_for() == 0 and len(inflight) < MAX_INFLIGHT:
            waits = bool(self.at("ready")) or self.open_is_due(FLUSH_AT, INTERVAL - DRIFT)
        expected = waits and self.tick_until <= self.now
        assert self.buffer.due(DRIFT) == expected
        assert not self.unchanged(lambda: self.buffer.due(DRIFT))
        if expected:
            self.tick_until = self.now + INTERVAL

    def mark(self):
        if self.open:
            self.seal()
        self.mark_at = self.buffer.mark()
        assert self.mark_at == self.sealed

    def pause(self):
        assert self.buffer.pause() == (not self.paused)
        self.paused = True

    @precondition(lambda self: self.closed_for() != 0)
    @rule()
    def resume(self):
        self.paused = False
        until, what, _ = self.gate
        if until > self.now and what == "asked":
            assert self.buffer.resume() == near(until - self.now)
            return
        assert self.buffer.resume() == 0
        self.gate = (0.0, "", "")
        self.endpoint_answered()
        for batch in self.at("inflight"):
            if batch.token is None:
                batch.deadline = self.now

    @precondition(lambda self: self.at("ready"))
    @rule(pick=PICK)
    def pack(self, pick):
        """A worker packs what waits; also what it takes for ready, and is not any more."""
        names = [*self.batches, "999"]
        batch = self.batches.get(names[pick % len(names)])
        is_ready = batch is not None and batch.place == "ready" and not batch.packed
        self.packed_to = max(self.packed_to, batch.number if batch else 999)
        assert self.buffer.pack(batch.id if batch else "999") == is_ready
        if is_ready:
            batch.packed = True

    def script_flush(self):
        self.redis.script_flush()

    def some_names(self, pick: int, everything: bool) -> list[str]:
        """All dead letters, or one; and names that are none, and one name twice."""
        dead = [batch.id for batch in self.at("dead")]
        chosen = dead if everything else dead[pick % len(dead) :][:1] if dead else []
        others = [batch.id for batch in self.batches.values() if batch.place != "dead"]
        return [*UNKNOWN, *chosen, *others, *chosen[:1]]

    @precondition(lambda self: self.at("dead"))
    @rule(pick=PICK, everything=st.booleans())
    def replay(self, pick, everything):
        names, messages = self.some_names(pick, everything), 0
        for batch in self.at("dead"):
            if batch.id in names:
                batch.place, batch.began, batch.cause = "ready", None, ""
                batch.attempts = batch.requests = 0
                messages += len(batch.messages)
        assert self.buffer.replay(names) == messages

    @precondition(lambda self: self.at("dead"))
    @rule(pick=PICK, everything=st.booleans())
    def purge(self, pick, everything):
        names, messages = self.some_names(pick, everything), 0
        for batch in self.at("dead"):
            if batch.id in names:
                self.purged += self.batches.pop(batch.id).messages
                messages += len(batch.messages)
        assert self.buffer.purge(names) == messages

    # ------------------------------------------------------------ what always holds

    @invariant()
    def redis_and_the_model_agree(self):
        found = self.dump()
        self.check_keys(found)
        self.check_messages(found)
        self.check_beside(found)
        self.check_holders(found)
        self.check_gate(found)
        self.check_snapshot()
        self.check_lists()

    def check_keys(self, found):
        """No key but the documented ones, and none without an owner."""
        for name, (kind, _, _) in found.items():
            general = re.sub(r"^(batch|meta|callbacks|traces):.+", r"\1:<id>", name)
            general = re.sub(r"^settled:.+", "settled:<name>", general)
            assert KINDS.get(general) == kind, f"{name} is not a {kind} of keys.py"
        placed = [i for place in ("ready", "inflight", "dead") for i in zset(found, place)]
        # The messages of a batch that somebody is still to be told of stay until then.
        kept = [s.id for s, _ in self.settled.values() if s.cause is None and s.body]
        batches = self.batches.values()
        with_callbacks = [b.id for b in batches if self.own(b.messages)]
        with_traces = [b.id for b in batches if self.own(b.messages, "trace")]
        for owned, owners in (
            ("batch:", [*placed, *kept]),
            ("meta:", placed),
            ("callbacks:", with_callbacks),
            ("traces:", with_traces),
            ("settled:", self.settled),
        ):
            names = [name.removeprefix(owned) for name in found if name.startswith(owned)]
            assert sorted(names) == sorted(owners), f"a {owned} key without owner, or the reverse"
        assert sorted(zset(found, "settled")) == sorted(self.settled)
        for place in ("ready", "inflight", "dead"):
            assert sorted(zset(found, place)) == sorted(b.id for b in self.at(place)), place
        assert len(zset(found, "inflight")) <= MAX_INFLIGHT
        waiting = [batch.id for batch in self.at("inflight") if batch.waits]
        assert sorted(zset(found, "waiting")) == sorted(waiting)

    def check_messages(self, found):
        """Each accepted message lies in one place, byte for byte as it was accepted."""
        waiting = [f"batch:{name}" for name in self.batches]
        contents = {name: entry[2] for name, entry in found.items() if name in waiting}
        contents = {name: bytes(unpacked(content)) for name, content in contents.items()}
        contents["open"] = found["open"][2] if "open" in found else b""
        names = Counter()
        for key, content in contents.items():
            parsed = [m["messageId"] for m in json.loads(b"[%b]" % content[:-1])]
            assert content == stored([self.accepted[name] for name in parsed])
            names.update(parsed)
            if key == "open":
                assert content == stored(self.open)
                continue
            batch = self.batches[key.removeprefix("batch:")]
            assert content == stored(batch.messages)
            meta = found[f"meta:{batch.id}"][2]
            assert (int(meta[b"count"]), int(meta[b"bytes"])) == (len(parsed), len(content))
            assert 1 <= len(parsed) <= MAX_MESSAGES
            assert len(content) - 1 + len(b"".join(ENVELOPE)) <= MAX_BYTES
        for message in (*self.delivered, *self.purged):
            names[json.loads(message)["messageId"]] += 1
        assert names == dict.fromkeys(self.accepted, 1), "a message is lost or doubled"

    def check_beside(self, found):
        """What is kept beside a message lies there, wherever it went."""
        for what, key in (("callbacks", "callbacks"), ("trace", "traces")):
            batches = {f"{key}:{b.id}": b.messages for b in self.batches.values()}
            for name, messages in {key: self.open, **batches}.items():
                lies = {int(place): own for place, own in found.get(name, ("", 0, {}))[2].items()}
                assert lies == self.own(messages, what), name
        for name, (settled, _) in self.settled.items():
            fields = found[f"settled:{name}"][2]
            own = [content for place, content in fields.items() if place.isdigit()]
            assert Counter(own) == Counter(settled.callbacks)

    def check_holders(self, found):
        """A batch in flight has one holder or none, another batch none."""
        for batch in self.batches.values():
            token = found[f"meta:{batch.id}"][2].get(b"token", b"").decode()
            holders = [h for h in self.begun if h.id == batch.id and h.token == token]
            assert [h.token for h in holders] == ([batch.token] if batch.token else [])
            assert not token or batch.place == "inflight"

    def check_gate(self, found):
        """What closes the source, and what a tick has claimed, lasts as long as it should."""
        what, cause = self.gate[1:]
        lasting = {
            "gate": (self.gate[0], f"{what} {cause}"),
            "probe": self.probe,
            "tick": (self.tick_until, "1"),
        }
        expected = {
            name: ("string", near(until - self.now), content.encode())
            for name, (until, content) in lasting.items()
            if until > self.now
        }
        assert {name: found[name] for name in lasting if name in found} == expected
        assert ("paused" in found) == self.paused

    def check_snapshot(self):
        """The figures are what the keys hold and what the steps were."""
        snapshot = self.buffer.snapshot()
        places = {
            "buffered": self.open,
            "delivered": self.delivered,
            "purged": self.purged,
            **{p: [m for b in self.at(p) for m in b.messages] for p in ("ready", "inflight")},
            "dead": [message for batch in self.at("dead") for message in batch.messages],
        }
        expected = {name: len(messages) for name, messages in places.items()}
        assert snapshot.accepted == sum(expected.values()) == len(self.accepted)
        del places["purged"]  # which has no figure in bytes
        expected |= {f"{name}_bytes": len(stored(m)) for name, m in places.items()}
        expected |= {f"{p}_batches": len(self.at(p)) for p in ("ready", "inflight", "dead")}
        counted = ("delivered_batches", "retries", "splits", "takeovers", "buried")
        expected |= {name: self.count[name] for name in counted}
        less = [
            len(stored(b.messages)) - self.redis.strlen(f"{TAG}:batch:{b.id}")
            for b in (*self.at("ready"), *self.at("inflight"))
        ]
        expected["saved_bytes"] = sum(less)
        attempts = {status: n for status, n in self.attempts.items() if status}
        expected |= {"attempts": attempts, "uncalled_batches": len(self.settled)}
        assert (snapshot.last_delivered is None) == (not self.delivered)
        waiting = [batch.since for batch in (*self.at("ready"), *self.at("inflight"))]
        waiting += [self.open_since] if self.open else []
        closed = self.closed_for()
        gate = "probing" if self.trips.total() else "open"
        if closed != 0:
            gate = "paused" if self.paused else self.gate[2]
        expected |= {
            "oldest": near(self.now - min(waiting, default=self.now)),
            "gate": gate,
            "closed": closed and near(closed),
        }
        assert {name: getattr(snapshot, name) for name in expected} == expected

    def check_lists(self):
        letters = [(d.id, d.messages, d.bytes, d.reason) for d in self.buffer.dead_letters()]
        dead = [(*batch.reference, batch.cause) for batch in self.at("dead")]
        assert sorted(letters) == sorted(dead)
        if self.mark_at is not None:
            waiting = (*self.at("ready"), *self.at("inflight"))
            before = [len(b.messages) for b in waiting if b.number <= self.mark_at]
            assert self.buffer.remaining(self.mark_at) == sum(before)


def zset(found, name) -> dict[str, float]:
    return found[name][2] if name in found else {}


@pytest.mark.parametrize("told", [None, "somebody"])
def test_no_order_of_transitions_loses_doubles_or_strays(make_app, redis, told, monkeypatch):
    monkeypatch.setattr(transitions, "BACKLOG", BACKLOG)
    monkeypatch.setattr(transitions, "STORED_BATCHES", YOUNGEST)
    monkeypatch.setattr(transitions, "PACKABLE_BATCHES", AT_ONCE)
    app = make_app(
        segment_on_delivered=told,
        segment_on_failed=told,
        segment_flush_at=FLUSH_AT,
        segment_flush_interval=INTERVAL,
        segment_lease=LEASE,
        segment_max_inflight=MAX_INFLIGHT,
        segment_max_batch_messages=MAX_MESSAGES,
        segment_max_batch_bytes=MAX_BYTES,
    )
    run_state_machine_as_test(
        partial(Machine, redis, buffer_of(app)),
        settings=settings(
            max_examples=EXAMPLES // 2,
            stateful_step_count=STEPS,
            deadline=None,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        ),
    )
