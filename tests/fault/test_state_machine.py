"""Transitions in any order, on a real Redis, lease to a model: nothing lost, doubled or stray.

The clock is the server's, and nobody waits for it: where time is to pass, it is
moved (``support.let_pass``). Durations are hours, so that the seconds a run really
takes never decide anything.

SEGMENT_TEST_EXAMPLES and SEGMENT_TEST_STEPS make the run longer: 200 and 60, say.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
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

from buffermodel import (
    AT_ONCE,
    BACKLOG,
    BREAKER,
    DRIFT,
    FLUSH_AT,
    HOUR,
    INTERVAL,
    LEASE,
    MAX_BYTES,
    MAX_INFLIGHT,
    MAX_MESSAGES,
    YOUNGEST,
    Sealed,
    near,
    stored,
)
from bufferrecount import Recount
from celery_segment.buffer import Attachments, Gone, Lease, LeasedElsewhere, SourceClosed, Stale
from celery_segment.buffer import buffer as transitions
from celery_segment.buffer.body import decompressed, is_compressed
from support import buffer_of, let_pass

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "60"))
STEPS = int(os.environ.get("SEGMENT_TEST_STEPS", "50"))

#: What is attached to a message, or nothing: bytes that the buffer does not look into.
ATTACHMENTS = st.builds(
    Attachments,
    st.sampled_from([b"", b"", b'{"link": 1}', b'{"link_error": "\xc3\xa9"}']),
    st.sampled_from([b"", b"", b"00-ab-cd-01", b"00-ef-cd-00"]),
)
UNKNOWN = ["nonsense", "", "999", "1.1.2.1", "0"]

MESSAGE = st.tuples(
    st.text(max_size=6),
    st.sampled_from(["a", "é", "中", "😀"]),
    st.sampled_from([0, 0, 0, 9, 700, 8_000, 16_000, 32_000]),
    ATTACHMENTS,
)
PICK = st.integers(0, 9)
#: What an attempt is counted under, if it is.
STATUS = st.sampled_from(["200", "503", "timeout", ""])


class Machine(Recount, RuleBasedStateMachine):
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
            self.claim_some(claimed, due_only=False, begin=True)
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

    @rule(limit=st.integers(1, 5), due_only=st.booleans(), begin=st.booleans())
    def claim(self, limit, due_only, begin):
        """Claim, and begin what was claimed; or leave that to later steps, or for ever."""
        self.claim_some(limit, due_only=due_only, begin=begin)

    def claim_some(self, limit, *, due_only, begin):
        expected = []
        if self.closed_for() == 0:
            room = min(limit, MAX_INFLIGHT - len(self.at("inflight")))
            due = (FLUSH_AT, INTERVAL) if due_only else (1, 0)
            if len(self.at("ready")) < room and self.open_is_due(*due):
                self.seal()
            for batch in self.at("ready")[:room]:
                batch.place, batch.deadline, batch.waits = "inflight", self.now + LEASE, True
                expected.append(batch.reference)
        found = self.buffer.claim(limit, due_only=due_only)
        assert found == expected
        for batch in expected if begin else ():
            self.begin_one(self.batches[batch.id], twice=True)

    @precondition(lambda self: any(batch.waits for batch in self.batches.values()))
    @rule(limit=st.integers(1, 3))
    def claim_next(self, limit):
        """A delivery takes what was claimed and waits, before it claims anything itself."""
        waiting = [batch for batch in self.at("inflight") if batch.waits]
        found = self.buffer.claim_next(limit)
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
        assert sorted(found, key=str) == sorted(expected, key=str)
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
            assert isinstance(found, SourceClosed), "a closed source is to put the batch back"
            assert found.seconds == (closed and near(closed))
            batch.place, batch.token = "ready", None
            return
        batch.began = self.now if batch.began is None else batch.began
        assert bytes(decompressed(found.body)) == stored(batch.messages)
        assert is_compressed(found.body) == batch.compressed
        assert found == Lease(
            batch.id,
            token,
            found.body,
            batch.reference.count,
            batch.reference.size,
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
        settled = [lease.id for lease in self.begun if lease.id not in self.batches]
        names = [*elsewhere, *settled, *UNKNOWN]
        name = names[pick % len(names)]
        assert self.unchanged(lambda: self.buffer.begin(name, "another")) == Gone()

    @precondition(lambda self: self.holders)
    @rule(pick=PICK, status=STATUS)
    def ack(self, pick, status):
        lease = self.holders[pick % len(self.holders)]
        found = self.buffer.ack(lease, status)
        self.attempts[status] += 1
        self.settle(found, "delivered", self.batches[lease.id], None)
        # What counts as delivered is what the holder was given to post.
        posted = json.loads(b"[%b]" % decompressed(lease.body)[:-1])
        self.delivered += [self.accepted[message["messageId"]] for message in posted]
        assert stored(self.batches.pop(lease.id).messages) == decompressed(lease.body)
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
        lease = self.holders[pick % len(self.holders)]
        batch = self.batches[lease.id]
        closed, wait, tripped = max(self.gate[0] - self.now, 0.0), hours * HOUR, 0
        cause = f"{what} é {lease.token}"
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
        found = self.buffer.retry(lease, what, wait, cause, status, breaker=BREAKER)
        self.attempts[status] += 1
        wait = max(wait, self.gate[0] - self.now)
        assert found == (near(wait), tripped)
        batch.token, batch.deadline, batch.cause = None, self.now + wait + LEASE, cause
        batch.attempts += what == "failure"
        self.count["retries"] += 1
        self.end_probe_of(batch)

    @precondition(lambda self: any(lease.count > 1 for lease in self.holders))
    @rule(pick=PICK, status=STATUS)
    def split(self, pick, status):
        several = [lease for lease in self.holders if lease.count > 1]
        lease = several[pick % len(several)]
        self.buffer.split(lease, status)
        self.attempts[status] += 1
        batch = self.batches.pop(lease.id)
        half = len(batch.messages) // 2
        for suffix, part in ((".1", batch.messages[:half]), (".2", batch.messages[half:])):
            self.batches[lease.id + suffix] = Sealed(lease.id + suffix, part, batch.since)
        self.count["splits"] += 1
        self.endpoint_answered()

    @precondition(lambda self: self.holders)
    @rule(pick=PICK, answered=st.booleans(), status=STATUS)
    def bury(self, pick, answered, status):
        lease = self.holders[pick % len(self.holders)]
        batch = self.batches[lease.id]
        cause, text = f"400 ü {lease.token}", "no such user" if answered else ""
        found = self.buffer.bury(lease, cause, text, status, answered=answered)
        self.settle(found, "dead", batch, cause)
        self.attempts[status] += 1
        self.count["buried"] += lease.count
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
            # A dead letter may be purged, or replayed and split, before its callback is called.
            body = settled.body if expected.cause else expected.body
            assert settled == replace(expected, callbacks=settled.callbacks, body=body)
            if expected.id in self.batches:
                assert bytes(decompressed(body)) == stored(self.batches[expected.id].messages)
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
        self.lost = [lease for lease in self.lost if not self.holds(lease)]

    @precondition(lambda self: self.stale)
    @rule(pick=PICK)
    def a_stale_holder_is_refused(self, pick):
        lease, buffer = self.stale[-1 - pick % len(self.stale)], self.buffer
        attempts = [
            lambda: buffer.ack(lease, "200"),
            lambda: buffer.bury(lease, "stale", status="400", answered=True),
            lambda: buffer.bury(lease, "stale", status="400", answered=False),
            *(
                lambda what=what: buffer.retry(lease, what, HOUR, "stale", "503", breaker=BREAKER)
                for what in ("failure", "asked", "refused")
            ),
        ]
        if lease.count > 1:
            attempts.append(lambda: buffer.split(lease, "400"))
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
        assert self.buffer.compressible() == self.compressible()
        waits = waits or bool(self.compressible())
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
        self.mark_at = self.buffer.admin.mark()
        assert self.mark_at == self.sealed

    def pause(self):
        assert self.buffer.admin.pause() == (not self.paused)
        self.paused = True

    @precondition(lambda self: self.closed_for() != 0)
    @rule()
    def resume(self):
        self.paused = False
        until, what, _ = self.gate
        if until > self.now and what == "asked":
            assert self.buffer.admin.resume() == near(until - self.now)
            return
        assert self.buffer.admin.resume() == 0
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
        is_ready = batch is not None and batch.place == "ready" and not batch.compressed
        self.compressed_to = max(self.compressed_to, batch.number if batch else 999)
        assert self.buffer.compress(batch.id if batch else "999") == is_ready
        if is_ready:
            batch.compressed = True

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
        assert self.buffer.admin.replay(names) == messages

    @precondition(lambda self: self.at("dead"))
    @rule(pick=PICK, everything=st.booleans())
    def purge(self, pick, everything):
        names, messages = self.some_names(pick, everything), 0
        for batch in self.at("dead"):
            if batch.id in names:
                self.purged += self.batches.pop(batch.id).messages
                messages += len(batch.messages)
        assert self.buffer.admin.purge(names) == messages

    # ------------------------------------------------------------ what always holds

    @invariant()
    def redis_and_the_model_agree(self):
        found = self.dump()
        self.check_keys(found)
        self.check_messages(found)
        self.check_attachments(found)
        self.check_holders(found)
        self.check_gate(found)
        self.check_snapshot()
        self.check_lists()


@pytest.mark.parametrize("hook", [None, "somebody"])
def test_no_order_of_transitions_loses_doubles_or_strays(make_app, redis, hook, monkeypatch):
    monkeypatch.setattr(transitions, "BACKLOG", BACKLOG)
    monkeypatch.setattr(transitions, "STORED_BATCHES", YOUNGEST)
    monkeypatch.setattr(transitions, "COMPRESSIBLE_BATCHES", AT_ONCE)
    app = make_app(
        segment_on_delivered=hook,
        segment_on_failed=hook,
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
