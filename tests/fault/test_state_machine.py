"""Transitions in any order, on a real Redis, lease to a model: nothing lost, doubled or stray.

The clock is the server's, and nobody waits for it: where time is to pass, it is
moved (``support.let_pass``). Durations are hours, so that the seconds a run really
takes never decide anything.

A hand, or an eviction, also deletes or changes what is stored: what cannot be delivered is
counted, and everything else goes on. Two applications share the Redis, each with a model of its
own: what one does changes nothing of the other's.

SEGMENT_TEST_EXAMPLES, of each configuration, and SEGMENT_TEST_STEPS make the run longer: 400 and
60, say.
With SEGMENT_TEST_SHRINK=0 a failure is told as it was found, and not made shorter.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from functools import partial
from math import ceil

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from buffermodel import (
    AGAIN,
    AT_ONCE,
    BACKLOG,
    BEGIN,
    BREAKER,
    DRIFT,
    HOUR,
    LEASE,
    LONGEST,
    MAX_BYTES,
    MAX_INFLIGHT,
    MAX_MESSAGES,
    MOST_GROUPS,
    MOST_KINDS,
    OVERDUE,
    RETENTION,
    TAIL,
    YOUNGEST,
    Sealed,
    near,
    stored,
)
from bufferrecount import Recount, name_of
from celery_segment.buffer import (
    OTHERS,
    Attachments,
    Busy,
    Damaged,
    Found,
    Gone,
    Grouped,
    Lease,
    LeasedElsewhere,
    Settled,
    SourceClosed,
    Stale,
    Violations,
    bounds,
    is_intact,
    kinds_of,
    messages_of,
)
from celery_segment.buffer.body import compressed, decompressed, is_compressed
from celery_segment.buffer.kinds import kind_of
from machines import run_machine
from support import buffer_of, let_pass

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "12"))
STEPS = int(os.environ.get("SEGMENT_TEST_STEPS", "50"))

#: What is attached to a message, or nothing: bytes that the buffer does not look into.
ATTACHMENTS = st.builds(
    Attachments,
    st.sampled_from([b"", b"", b'{"link": 1}', b'{"link_error": "\xc3\xa9"}']),
    st.sampled_from([b"", b"", b"00-ab-cd-01", b"00-ef-cd-00"]),
)
UNKNOWN = ["nonsense", "", "999", "1.1.2.1", "0"]

VIOLATIONS = [
    Violations.of("track", "A", "properties.b[2].c", "type"),
    Violations.of("page", "", "name", "unplanned"),
    OTHERS._replace(rule="type", messages=2),
]
MESSAGE = st.tuples(
    st.text(max_size=6),
    st.sampled_from(["a", "é", "中", "😀"]),
    st.sampled_from([0, 0, 0, 9, 700, 8_000, 16_000, 32_000]),
    ATTACHMENTS,
)
PICK = st.integers(0, 9)
#: What an attempt is counted under, if it is.
STATUS = st.sampled_from(["200", "503", "timeout", ""])
#: How long a request takes: nothing, or so long that it began before whatever happened now.
SECONDS = st.sampled_from([0.0, 0.0, HOUR / 2])


class NotGrouped:
    """What was buried before there were groups."""

    @staticmethod
    def encode(_):
        return [MOST_GROUPS]


#: By what a batch that is given up is grouped.
GROUPED_BY = st.sampled_from(
    [
        lambda lease: Grouped("400 ü", kinds_of(lease.body)),
        lambda lease: Grouped("503", kinds_of(lease.body)),
        lambda _: None,
        lambda _: NotGrouped(),
    ]
)


#: Why the messages of a person are deleted.
FORGOTTEN = "forgotten é"
#: What a hand does to a batch.
HARM = ("delete", "cut", "garble", "record", "count")
#: How much of a compressed batch stands before its stream, and behind.
HEADER, END = 9, 4


def is_readable(lease: Lease) -> bool:
    try:
        return bool(messages_of(lease.body))
    except Exception:  # noqa: BLE001 - of msgspec, or of the decompression
        return False


class Machine(Recount, RuleBasedStateMachine):
    """The transitions of one source.

    Args:
        redis: A client of the Redis.
        buffer: The source's buffer.
        neighbour: That of another application; its model is kept aside.
        harmful: Whether a hand deletes and changes what is stored.
    """

    def __init__(self, redis, buffer, neighbour=None, *, harmful=False):
        super().__init__(redis, buffer)
        self.harmful = harmful
        self.aside = {} if neighbour is None else vars(Recount(redis, neighbour))
        self.seen_aside = {}

    @precondition(lambda self: self.aside)
    @rule()
    def turn_to_the_other_application(self):
        self.seen_aside = self.about()
        own = {name: getattr(self, name) for name in self.aside}
        vars(self).update(self.aside)
        self.aside = own

    # ------------------------------------------------------------ calls

    @rule(drawn=MESSAGE)
    def append(self, drawn):
        message = self.new_message((*drawn[:3], Attachments()))
        self.buffer.append(message)
        self.store(message)

    @initialize(
        messages=st.integers(0, 20),
        claimed=st.integers(0, 3),
        tripped=st.booleans(),
        harm=st.sampled_from(["", *HARM]),
        late=st.booleans(),
    )
    def in_the_midst_of_work(self, messages, claimed, tripped, harm, late):
        """Hypothesis leaves many rules out of a run: without a start few runs get anywhere."""
        attachments = [Attachments(), Attachments(b"[]", b"00-12-34-01")]
        self.append_all([(f"é{n}", "中", 40, attachments[n % 2]) for n in range(messages)])
        harm = harm if self.harmful and messages else ""
        if harm and not late:
            self.mark()
            self.harm(pick=0, what=harm)
        if claimed:
            self.claim_some(claimed, stint=0.0, begin=True)
        if harm and late and self.batches:
            self.harm(pick=0, what=harm)
        if tripped and self.holders:
            self.retry(pick=0, what="refused", hours=0, status="401", seconds=0.0)
            self.time_passes(hours=1)
            self.begin(pick=0, twice=True)  # as the probe

    @rule(drawn=MESSAGE, reason=st.sampled_from(["a", "b"]))
    def quarantine(self, drawn, reason):
        message, cause = self.new_message((*drawn[:3], Attachments())), f"{reason} ü"
        self.buffer.quarantine(message, cause, reason)
        if self.followers and self.open:
            self.seal()
        self.sealed += 1
        name = str(self.sealed)
        if self.followers:
            self.copies.add(self.sealed)
        letter = Sealed(name, [message], self.now, self.now, "dead", buried=self.now, cause=cause)
        self.batches[name] = letter
        self.count["accepted"] += 1
        self.count["buried"] += 1
        grouped = Grouped(reason, {kind_of(message): 1})
        self.join_groups(letter, grouped.encode(1)[1:])

    @rule(found=st.lists(st.sampled_from(VIOLATIONS), min_size=1, max_size=3))
    def count_violations(self, found):
        self.buffer.count_violations(found)
        for each in found:
            self.violations[each[:-1]] += each.messages

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

    @rule(limit=st.integers(1, 5), stint=st.sampled_from([0.0, 0.25]), begin=st.booleans())
    def claim(self, limit, stint, begin):
        """Claim, and begin what was claimed; or leave that to later steps, or for ever."""
        self.claim_some(limit, stint=stint, begin=begin)

    def claim_some(self, limit, *, stint, begin):
        expected = self.to_be_claimed(limit, stint, flush=True)
        assert self.buffer.claim(limit, stint=stint) == expected
        for batch in expected if begin else ():
            self.begin_one(self.batches[batch.id], twice=True)

    def to_be_claimed(self, limit, stint, *, flush, begins=True):
        if self.closed_for() != 0:
            return []
        self.claims += 1  # all that one claim takes have the same time
        before = self.abandoned[:1]
        self.claims += 1  # once: all of them have one deadline
        self.claim_batches(before, waits=not begins)
        if before and not flush:
            return [before[0].reference]
        room = min(limit - len(before), self.concurrency - len(self.at("inflight")))
        ready, takes_open = len(self.at("ready")), flush and bool(self.open)
        if stint:
            latency = 100 if self.latency is None else self.latency
            room = min(room, max(ceil((ready + takes_open) * latency / (stint * 1000)), 1))
        if takes_open and (ready < room or (room > 0 and self.open_first)):
            self.seal()
        claimed = []
        while (waiting := self.at("ready")) and len(claimed) < room:
            batch = [*(self.untried() if self.trips.total() else ()), *waiting][0]
            batch.place = "inflight"
            claimed.append(batch)
        first = [] if before or not begins else claimed[:1]
        self.claim_batches(first, waits=False)
        self.claim_batches(claimed[len(first) :], waits=True)
        return [batch.reference for batch in (*before, *claimed)]

    @precondition(lambda self: any(batch.waits for batch in self.batches.values()))
    @rule(limit=st.integers(1, 3), stint=st.sampled_from([0.0, 0.25]), begins=st.booleans())
    def claim_next(self, limit, stint, begins):
        """A delivery takes what was claimed and waits, before it claims anything itself."""
        waiting = [batch for batch in self.at("inflight") if batch.waits]
        found = self.buffer.claim_next(limit, stint=stint, begins=begins)
        if self.closed_for() != 0:
            assert found == []
            return
        assert found == [waiting[0].reference]
        self.claims += 1
        self.claim_batches(waiting[:1], waits=not begins)
        if begins:
            self.begin_one(waiting[0], twice=False)

    @precondition(lambda self: not any(batch.waits for batch in self.batches.values()))
    @rule(limit=st.integers(1, 3), stint=st.sampled_from([0.0, 0.25]), begins=st.booleans())
    def claim_next_of_ready_ones(self, limit, stint, begins):
        """Where none waits, ready ones are claimed; the open batch is left to a flush."""
        expected = self.to_be_claimed(limit, stint, flush=False, begins=begins)
        assert self.buffer.claim_next(limit, stint=stint, begins=begins) == expected

    @rule(pick=PICK)
    def take(self, pick):
        """One that was claimed for a task is taken by it, unless another delivery was faster."""
        names = [*self.batches, "999"]
        name = names[pick % len(names)]
        batch = self.batches.get(name)
        if batch and batch.waits:
            batch.waits = False
            assert self.buffer.take(name)
        else:
            assert not self.unchanged(lambda: self.buffer.take(name))

    @rule(pick=PICK)
    def release(self, pick):
        """Give back what was claimed, or waits for a retry; nothing that somebody holds."""
        names = [*self.batches, "999"]
        batch = self.batches.get(names[pick % len(names)])
        if batch and batch.place in ("inflight", "retrying") and not batch.token:
            self.put_back(batch)
            self.end_probe_of(batch)
            assert self.buffer.release(batch.id)
        else:
            name = batch.id if batch else "999"
            assert not self.unchanged(lambda: self.buffer.release(name))

    @precondition(lambda self: self.at("inflight") or self.at("retrying"))
    @rule()
    def reap(self):
        expired = [batch for batch in self.at("inflight") if batch.deadline <= self.now]
        overdue = [b for b in self.at("retrying") if b.deadline + OVERDUE <= self.now + DRIFT]
        for batch in (*expired, *overdue):
            self.put_back(batch)
        self.unanswered = 0
        self.count["takeovers"] += len(expired) + len(overdue)
        self.count_lost()
        taken, uncalled = self.buffer.reap()
        assert taken == len(expired) + len(overdue)
        assert uncalled == any(until <= self.now for _, until in self.settled.values())

    # ------------------------------------------------------------ delivering

    @precondition(lambda self: self.at("inflight") or self.at("retrying"))
    @rule(pick=PICK, twice=st.booleans())
    def begin(self, pick, twice):
        """Begin any batch in flight, whoever holds it, or one that waits for its retry."""
        inflight = [*self.at("inflight"), *self.at("retrying")]
        self.begin_one(inflight[pick % len(inflight)], twice)

    def begin_repaired(self, batch, found):
        """A record that is lost is written anew by the content, where that can be read."""
        if batch.harm:
            assert (found.count, found.size) == (0, 0)
            return
        batch.since = self.now if batch.since is None else batch.since
        batch.saved = len(stored(batch.messages)) - len(found.body)
        self.saved += batch.saved if batch.lost == "dead" else 0
        batch.lost = ""

    def begin_one(self, batch, twice):
        token = f"t{len(self.begun)}"
        begin = partial(self.buffer.begin, batch.id)
        if batch.token and batch.deadline > self.now:
            assert self.unchanged(lambda: begin(token)) == LeasedElsewhere()
            return
        found = begin(token)
        room = batch.place == "inflight" or len(self.at("inflight")) < self.concurrency
        if self.closed_for() == 0 and not room:
            assert found == Busy(self.concurrency)
            self.put_back(batch)
            return
        closed, batch.waits = self.closed_to(batch), False
        if closed != 0:
            assert isinstance(found, SourceClosed), "a closed source is to put the batch back"
            assert found.seconds == (closed and near(closed))
            self.put_back(batch)
            return
        batch.place = "inflight"
        batch.began = self.now if batch.began is None else batch.began
        if batch.lost:
            self.begin_repaired(batch, found)
        if batch.harm:
            assert found.body == (batch.content or b"")
        else:
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
            **self.past_of(batch, found),
        )
        assert self.buffer.traces(found) == [*self.own(batch.messages, "trace").values()]
        batch.requests += 1
        batch.token, batch.deadline = token, self.now + LEASE
        self.begun.append(found)
        if twice:
            assert self.unchanged(lambda: begin("another")) == LeasedElsewhere()
            if not is_intact(found.body, found.size):
                self.damage_one(found)  # as an attempt does, unless its process ends

    @precondition(lambda self: self.sealed)
    @rule(pick=PICK)
    def begin_what_is_not_in_flight(self, pick):
        elsewhere = [b.id for b in self.batches.values() if b.place in ("ready", "dead")]
        settled = [lease.id for lease in self.begun if lease.id not in self.batches]
        names = [*elsewhere, *settled, *UNKNOWN]
        name = names[pick % len(names)]
        assert self.unchanged(lambda: self.buffer.begin(name, "another")) == Gone()

    @property
    def posting(self) -> list[Lease]:
        """The holders that post what they hold: not one that sees that it is damaged."""
        return [lease for lease in self.holders if is_intact(lease.body, lease.size)]

    @property
    def accepted_ones(self) -> list[Lease]:
        """The holders whose request the endpoint may accept."""
        return [lease for lease in self.posting if is_readable(lease)]

    @precondition(lambda self: self.accepted_ones)
    @rule(pick=PICK, status=STATUS, seconds=SECONDS)
    def ack(self, pick, status, seconds):
        lease = self.accepted_ones[pick % len(self.accepted_ones)]
        self.answered_in(seconds)
        found = self.buffer.ack(lease, status, seconds)
        self.attempts[status] += 1
        self.settle(found, "delivered", lease, None)
        # What counts as delivered is what the holder was given to post.
        posted = json.loads(b"[%b]" % decompressed(lease.body)[:-1])
        self.delivered += [self.accepted[message["messageId"]] for message in posted]
        batch = self.batches.pop(lease.id)
        assert stored(batch.messages) == decompressed(lease.body)
        self.saved -= batch.saved
        if found and found.body and batch.harm:
            kept = replace(found, body=batch.content or b"")
            self.settled[found.name] = (kept, self.settled[found.name][1])
        self.latencies += batch.latencies(self.now)
        self.count["delivered_batches"] += 1
        self.last_delivered = self.now
        self.endpoint_answered()

    @precondition(lambda self: self.posting)
    @rule(
        pick=PICK,
        what=st.sampled_from(["failure", "failure", "own", "doubtful", "asked", "refused"]),
        hours=st.sampled_from([0, 0, 1, 3]),
        status=STATUS,
        seconds=SECONDS,
    )
    def retry(self, pick, what, hours, status, seconds):
        lease = self.posting[pick % len(self.posting)]
        batch = self.batches[lease.id]
        closed, wait, tripped = max(self.gate[0] - self.now, 0.0), hours * HOUR, 0
        cause = f"{what} é {lease.token}"
        if what == "asked":
            if closed and abs(wait - closed) < 2 * DRIFT:
                wait += 4 * DRIFT  # one of the two is plainly the longer
            close_for = wait
            if self.now + wait >= self.asked[0]:
                self.asked = (self.now + wait, cause)
        elif what in ("own", "doubtful"):
            close_for = 0.0
        else:
            self.failures += 1
            fails = what == "refused" or self.trips.total() or self.failures >= BREAKER[0]
            close_for = 0.0
            if closed == 0 and fails:
                same = what == "refused" and self.refused == batch.id
                self.trips[what] += not same
                tripped, self.tripped_cause = self.trips[what], cause
                close_for = min(BREAKER[1] * 2 ** (tripped - 1), BREAKER[2])
                self.refused = batch.id if what == "refused" else self.refused
        if close_for > closed:
            self.gate = (self.now + close_for, what, cause)
        if what not in ("refused", "own", "doubtful"):
            self.failed_in(seconds)
        found = self.buffer.retry(lease, what, wait, cause, status, seconds, breaker=BREAKER)
        self.attempts[status] += 1
        wait = max(wait, self.gate[0] - self.now)
        assert found == (near(wait), tripped)
        batch.place, batch.token = "retrying", None
        batch.deadline, batch.cause = self.now + wait, cause
        batch.attempts += what in ("failure", "own")
        batch.refusals += what in ("refused", "doubtful")
        batch.failed = self.now if batch.failed is None else batch.failed
        self.count["retries"] += 1
        self.end_probe_of(batch)

    @precondition(lambda self: any(lease.count > 1 for lease in self.posting))
    @rule(pick=PICK, status=STATUS, answered=st.booleans())
    def split(self, pick, status, answered):
        several = [lease for lease in self.posting if lease.count > 1]
        lease = several[pick % len(several)]
        if not is_readable(lease):
            with pytest.raises(Damaged):
                self.unchanged(lambda: self.buffer.split(lease, status, answered=answered))
            self.damage_one(lease)
            return
        self.buffer.split(lease, status, answered=answered)
        self.attempts[status] += 1
        batch = self.batches.pop(lease.id)
        self.saved -= batch.saved
        half = len(batch.messages) // 2
        # What the holder has read is stored where what it was read from is not whole any more.
        is_cut_there = batch.harm == "garbled" and not is_compressed(lease.body)
        content = batch.content if is_cut_there else stored(batch.messages)
        cut = len(stored(batch.messages[:half]))
        for suffix, part, own in (
            (".1", batch.messages[:half], content[:cut]),
            (".2", batch.messages[half:], content[cut:]),
        ):
            made = Sealed(lease.id + suffix, part, batch.since, batch.sealed)
            made.began, made.failed = batch.began, batch.failed
            made.attempts, made.requests = batch.attempts, batch.requests
            if own != stored(part):
                made.harm, made.content = batch.harm, own
            self.batches[made.id] = made
        self.count["splits"] += 1
        if answered:
            self.endpoint_answered()
        self.end_probe_of(batch)

    @precondition(lambda self: self.posting)
    @rule(pick=PICK, answered=st.booleans(), status=STATUS, by=GROUPED_BY)
    def bury(self, pick, answered, status, by):
        lease = self.posting[pick % len(self.posting)]
        batch = self.batches[lease.id]
        cause, text = f"400 ü {lease.token}", "no such user" if answered else ""
        about = {"answered": answered, "grouped": by(lease)}
        found = self.buffer.bury(lease, cause, text, status, **about)
        self.settle(found, "dead", lease, cause)
        self.saved -= batch.saved
        self.attempts[status] += 1
        self.count["buried"] += lease.count
        reason = f"{cause}: {text}" if text else cause
        batch.place, batch.token, batch.cause = "dead", None, reason
        batch.buried = self.now
        self.join_groups(batch, (by(lease) or Grouped(cause)).encode(lease.count)[1:])
        self.end_probe_of(batch)
        if answered:
            self.endpoint_answered()

    @precondition(lambda self: len(self.posting) < len(self.holders))
    @rule(pick=PICK)
    def damage(self, pick):
        broken = [lease for lease in self.holders if lease not in self.posting]
        self.damage_one(broken[pick % len(broken)])

    def damage_one(self, lease):
        batch = self.batches[lease.id]
        self.settle(self.buffer.damage(lease, "damaged"), "damaged", lease, "damaged")
        self.saved -= batch.saved
        self.lose(batch)
        self.end_probe_of(batch)
        self.count_lost()

    @precondition(lambda self: self.holders)
    @rule(pick=PICK)
    def give_up(self, pick):
        """A holder gives its batch back, since its write key is not the right one."""
        lease = self.holders[pick % len(self.holders)]
        batch = self.batches[lease.id]
        assert not self.unchanged(lambda: self.buffer.release(lease.id, "another"))
        assert self.buffer.release(lease.id, lease.token)
        self.put_back(batch)
        self.end_probe_of(batch)

    @property
    def calling(self):
        """The settled batches whose callbacks somebody runs."""
        return [name for name, (settled, _) in self.settled.items() if settled.token]

    @precondition(lambda self: self.calling)
    @rule(pick=PICK, left=st.integers(0, 2), hook_is_left=st.booleans())
    def called(self, pick, left, hook_is_left):
        name = self.calling[pick % len(self.calling)]
        if name in self.forgotten:  # its record is gone: the next drain forgets the rest
            self.unchanged(lambda: self.buffer.called(self.settled[name][0]))
            return
        settled, until = self.settled.pop(name)
        kept, hook_is_left = settled.callbacks[:left], hook_is_left and not settled.reported
        self.buffer.called(settled, kept, hook_is_left=hook_is_left)
        if kept or hook_is_left:
            body = settled.body if hook_is_left or settled.cause else b""
            self.settled[name] = (
                replace(settled, callbacks=kept, body=body, reported=not hook_is_left),
                until,
            )

    @precondition(lambda self: self.settled)
    @rule()
    def uncalled(self):
        """What a worker that is gone was to call is taken over by another."""
        for name in self.forgotten & self.settled.keys():
            if self.settled[name][1] <= self.now:
                del self.settled[name]
        found = {settled.name: settled for settled in self.buffer.uncalled()}
        assert found.keys() == {n for n, (_, until) in self.settled.items() if until <= self.now}
        for name, settled in found.items():
            expected, _ = self.settled[name]
            assert Counter(settled.callbacks) == Counter(expected.callbacks)
            # A dead letter may be purged, or replayed and split, before its callback is called.
            body = settled.body if expected.cause else expected.body
            own = {"callbacks": settled.callbacks, "token": settled.token}
            assert settled == replace(expected, body=body, **own)
            assert settled.token != expected.token
            # Whoever was to call them is late.
            self.unchanged(lambda late=expected: self.buffer.called(late))
            if expected.id in self.batches and not self.batches[expected.id].harm:
                assert bytes(decompressed(body)) == stored(self.batches[expected.id].messages)
            self.settled[name] = (replace(expected, token=settled.token), self.now + LEASE)

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
            lambda: buffer.damage(lease, "stale"),
            lambda: buffer.bury(lease, "stale", status="400", answered=True),
            lambda: buffer.bury(lease, "stale", status="400", answered=False),
            *(
                lambda what=what: buffer.retry(lease, what, HOUR, "stale", "503", breaker=BREAKER)
                for what in ("failure", "asked", "refused")
            ),
        ]
        if lease.count > 1 and is_readable(lease):
            attempts.append(lambda: buffer.split(lease, "400"))
        for attempt in attempts:
            with pytest.raises(Stale):
                self.unchanged(attempt)

    @rule(hours=st.integers(1, 4))
    def time_passes(self, hours):
        self.let_pass(self.tag, hours * HOUR)
        self.now += hours * HOUR
        if self.aside:
            self.let_pass(self.aside["tag"], hours * HOUR)
            self.aside["now"] += hours * HOUR
            self.seen_aside = self.about(self.aside["tag"])

    def let_pass(self, tag, seconds):
        let_pass(self.redis, seconds, tag.removeprefix("{segment:").removesuffix("}"))

    @precondition(lambda self: self.harmful and self.batches)
    @rule(pick=PICK, what=st.sampled_from(HARM))
    def harm(self, pick, what):
        """A hand, or an eviction, deletes or changes what is stored of a batch."""
        batch = [*self.batches.values()][pick % len(self.batches)]
        if what in ("record", "count"):
            self.harm_record(batch, what)
        elif not batch.harm:
            self.harm_content(batch, what)

    def harm_content(self, batch, what):
        key = f"{self.tag}:batch:{batch.id}"
        content = self.redis.get(key)
        start, stop = (HEADER, len(content) - END) if batch.compressed else (5, 15)
        match what:
            case "delete":
                batch.harm, batch.content = "gone", None
                self.redis.delete(key)
                return
            case "cut":
                batch.harm, batch.content = "cut", content[: -2 * END - 1]
            case "garble":
                noise = b"\xff" * (stop - start)
                batch.harm, batch.content = "garbled", content[:start] + noise + content[stop:]
        self.redis.set(key, batch.content)

    def harm_record(self, batch, what):
        if batch.lost:
            return
        key = f"{self.tag}:meta:{batch.id}"
        self.records_were_lost = True
        if what == "record":
            self.redis.delete(key)
            batch.lose_record()
        else:
            self.redis.hdel(key, "count", "token")
            batch.lost, batch.token = batch.counted_in, None

    @precondition(lambda self: self.harmful)
    @rule(what=st.sampled_from(["count", "settled", "state"]))
    def harm_the_source(self, what):
        """A hand, or an eviction, deletes what is stored about the source."""
        if what == "count":
            self.redis.delete(f"{self.tag}:count")
        elif what == "settled":
            for name in list(self.settled)[:1]:
                self.redis.delete(f"{self.tag}:settled:{name}")
                self.forgotten.add(name)
        elif self.open:
            self.lose_state()

    def lose_state(self):
        """Lose the sequence, too: the next batch has a number that no other had."""
        self.redis.delete(f"{self.tag}:state")
        self.forget_state()
        self.open_since = self.now
        before = self.sealed
        self.seal()
        mark = self.buffer.admin.mark()
        assert mark > before
        self.batches[str(mark)] = self.batches.pop(str(self.sealed))
        self.batches[str(mark)].id, self.sealed = str(mark), mark
        if self.followers:
            self.copies = self.copies - {before + 1} | {mark}
        self.tail = None

    # ------------------------------------------------------------ operating

    @rule(
        what=st.sampled_from(
            ["due", "mark", "pause", "resume", "script_flush", "name_the_owner", "note_the_format"]
        )
    )
    def operate(self, what):
        """One rule for what would else crowd out the deliveries."""
        getattr(self, what)()

    def due(self):
        inflight = self.at("inflight")
        waits = any(batch.deadline <= self.now for batch in inflight)
        late = self.now + DRIFT - OVERDUE
        waits = waits or any(batch.deadline <= late for batch in self.at("retrying"))
        waits = waits or any(until <= self.now for _, until in self.settled.values())
        assert self.buffer.compressible() == self.compressible()
        waits = waits or bool(self.compressible()) or bool(self.expired)
        probed = self.trips.total() and self.probe[0] > self.now
        if not waits and self.closed_for() == 0 and not probed:
            room = len(inflight) < self.concurrency
            waits = (bool(self.at("ready") or self.open) and room) or bool(self.abandoned)
        shortest = HOUR / 2
        again = min(AGAIN * 2 ** (self.unanswered - 1), LONGEST) if self.unanswered else shortest
        expected = waits and self.now - self.ticked + DRIFT >= again
        assert self.buffer.due(shortest) == expected
        if expected:
            self.ticked, self.unanswered = self.now, self.unanswered + 1
        assert not self.unchanged(lambda: self.buffer.due(shortest))
        # Whoever did not get the reply does not wait for that drain to begin.
        if expected:
            assert self.buffer.due(0.0, unsure=True)
            self.unanswered = 1

    def name_the_owner(self):
        for name in ("shop", "staging") if self.aside else ("staging",):
            self.owner = self.owner or name
            assert self.buffer.admin.claim_ownership(name) == self.owner

    def note_the_format(self):
        for number in (1, self.format + 1, self.format):
            self.format = max(self.format, number)
            assert self.buffer.admin.note_format(number) == self.format

    def mark(self):
        if self.open:
            self.seal()
        self.mark_at = self.buffer.admin.mark()
        assert self.mark_at == self.sealed

    @rule()
    def follow(self):
        """Whoever follows the source reads each message once, wherever it went since."""
        if self.tail is None:
            self.tail, self.untailed = self.buffer.admin.tail(), []
            self.looked(self.tail)
            return
        is_behind, found = True, []
        while is_behind:
            look = self.tail.read()
            assert (look.missed, look.is_reset) == (0, False)
            is_behind, found = look.is_behind, [*found, *look.messages]
        assert found == self.untailed
        self.untailed = []
        self.looked(self.tail)

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
        until, cause = self.asked
        self.gate = (until, "asked", cause) if until > self.now else (0.0, "", "")
        assert self.buffer.admin.resume() == near(max(until - self.now, 0.0))
        self.endpoint_answered()
        for batch in self.at("retrying"):
            self.put_back(batch)

    @precondition(lambda self: self.at("ready"))
    @rule(pick=PICK)
    def pack(self, pick):
        """A worker packs what waits; also what it takes for ready, and is not any more."""
        names = [*self.batches, "999"]
        batch = self.batches.get(names[pick % len(names)])
        is_ready = batch is not None and batch.place == "ready" and not batch.compressed
        is_ready = is_ready and batch.harm != "gone"
        self.compressed_to = max(self.compressed_to, batch.number if batch else 999)
        assert self.buffer.compress(batch.id if batch else "999") == is_ready
        if is_ready:
            batch.compressed = True
            before = batch.content if batch.harm else stored(batch.messages)
            if batch.harm:
                batch.content = compressed(before)
            key = f"{self.tag}:batch:{batch.id}"
            batch.saved = len(before) - self.redis.strlen(key)
            self.saved += batch.saved

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
                self.leave_groups(batch)
                batch.attempts = batch.requests = batch.refusals = 0
                batch.failed = None
                messages += batch.reference.count
                self.saved += batch.saved
        assert self.buffer.admin.replay(names) == messages

    @precondition(lambda self: self.at("dead"))
    @rule(pick=PICK, everything=st.booleans())
    def purge(self, pick, everything):
        names, messages = self.some_names(pick, everything), 0
        for batch in self.at("dead"):
            if batch.id in names:
                del self.batches[batch.id]
                self.leave_groups(batch)
                (self.uncounted["dead"] if batch.lost else self.purged).extend(batch.messages)
                messages += batch.reference.count
        assert self.buffer.admin.purge(names) == messages

    @precondition(lambda self: self.batches)
    @rule(pick=PICK, every=st.integers(1, 3))
    def forget(self, pick, every):
        """An operator deletes some messages of a batch, which may be under way."""
        batch = [*self.batches.values()][pick % len(self.batches)]
        theirs = {name_of(each): each for each in batch.messages[pick % every :: every]}
        forget = partial(
            self.buffer.admin.forget, batch.id, lambda m: name_of(m) in theirs, FORGOTTEN
        )
        if batch.harm == "gone":
            assert self.unchanged(forget) is None
        elif batch.harm:
            with pytest.raises(Damaged):
                self.unchanged(forget)
        elif not theirs:
            assert self.unchanged(forget) == Found(0)
        elif batch.place == "inflight":
            left = Found(len(theirs), "inflight", near(max(batch.deadline - self.now, 0)))
            assert self.unchanged(forget) == left
        elif batch.lost:
            with pytest.raises(Damaged):
                self.unchanged(forget)
        else:
            assert forget() == Found(len(theirs), batch.place)
            self.forget_some(batch, theirs)

    def forget_some(self, batch, theirs):
        own, size = self.own(batch.messages), len(stored(batch.messages))
        left = [each for each in batch.messages if name_of(each) not in theirs]
        lost = tuple(c for n, c in own.items() if batch.messages[n - 1] not in left)
        if lost and batch.place != "dead":
            name, deleted = f"forgotten:{batch.id}:{size}", len(stored([*theirs.values()]))
            about = (len(theirs), deleted, True)
            found = Settled(name, batch.id, "", FORGOTTEN, lost, b"", *about)
            self.settled[name] = (found, self.now)
        self.purged += theirs.values()
        self.saved -= batch.saved if batch.place != "dead" else 0
        batch.messages = left
        if batch.place == "dead" and left:
            self.thin_groups(batch)
        if not left:
            del self.batches[batch.id]
            self.leave_groups(batch)
            self.end_probe_of(batch)
            return
        content = self.redis.get(f"{self.tag}:batch:{batch.id}")
        batch.saved = len(stored(left)) - len(content)
        self.saved += batch.saved if batch.place != "dead" else 0

    @precondition(lambda self: self.at("dead"))
    @rule()
    def expire_dead(self):
        """A drain deletes the dead letters that have been kept for long enough."""
        messages = 0
        for batch in self.expired:
            del self.batches[batch.id]
            self.leave_groups(batch)
            (self.uncounted["dead"] if batch.lost else self.purged).extend(batch.messages)
            messages += batch.reference.count
        assert self.buffer.expire_dead() == messages

    @property
    def expired(self) -> list[Sealed]:
        return [batch for batch in self.at("dead") if batch.buried + RETENTION <= self.now]

    # ------------------------------------------------------------ what always holds

    @invariant()
    def redis_and_the_model_agree(self):
        if self.aside and self.seen_aside:
            assert self.dump(self.aside["tag"]) == self.seen_aside, "the other application's"
        found = self.dump()
        self.check_keys(found)
        self.check_messages(found)
        self.check_attachments(found)
        self.check_groups(found)
        self.check_holders(found)
        self.check_gate(found)
        self.check_snapshot()
        self.check_lists()


@pytest.mark.parametrize("what", ["plain", "harmed", "two applications"])
def test_no_order_of_transitions_loses_doubles_or_strays(make_app, redis, what, monkeypatch):
    for name, value in {
        "BACKLOG": BACKLOG,
        "STORED_BATCHES": YOUNGEST,
        "COMPRESSIBLE_BATCHES": AT_ONCE,
        "OVERDUE": OVERDUE,
        "BEGIN": BEGIN,
        "TAIL": TAIL,
        "AGAIN": AGAIN,
        "LONGEST": LONGEST,
        "MOST_KINDS": MOST_KINDS,
        "MOST_GROUPS": MOST_GROUPS,
    }.items():
        monkeypatch.setattr(bounds, name, value)
    hook = None if what == "plain" else "somebody"
    conf = {
        "segment_on_delivered": hook,
        "segment_on_failed": hook,
        "segment_lease": LEASE,
        "segment_dead_retention": RETENTION,
        "segment_max_inflight": MAX_INFLIGHT,
        "segment_max_batch_messages": MAX_MESSAGES,
        "segment_max_batch_bytes": MAX_BYTES,
    }
    buffer, neighbour = buffer_of(make_app(**conf)), None
    if what == "two applications":
        neighbour = buffer_of(make_app(**conf, segment_namespace="staging"))
    machine = partial(Machine, redis, buffer, neighbour, harmful=what != "plain")
    run_machine(machine, EXAMPLES, STEPS)
