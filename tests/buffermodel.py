"""What a buffer does, as a model in Python: for tests/fault/test_state_machine.py.

Its time is in seconds, and passes only by `now`. Durations are hours, so that the seconds a
run really takes never decide anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from celery_segment.buffer import ENVELOPE, Attachments, BatchRef, Lease, Settled
from celery_segment.buffer.kinds import kind_of

HOUR = 3600.0
#: More than the real time that an example takes, less than any difference that decides.
DRIFT = 60.0
LEASE = 2 * HOUR
RETENTION = 3 * HOUR
#: Longer than any run: what is kept for followers does not end.
TAIL = HOUR
#: How many of their copies are deleted at once.
COPIES = 100
MAX_INFLIGHT = 3
MAX_MESSAGES = 5
MAX_BYTES = 33_000
#: Of the buffer's own constants, so that a few batches are a backlog.
BACKLOG, YOUNGEST, AT_ONCE = 4, 2, 3
OVERDUE, AGAIN, LONGEST, BEGIN = HOUR, HOUR, 3 * HOUR, HOUR
BREAKER = (2, HOUR, 3 * HOUR)
MOST_KINDS, MOST_GROUPS = 2, 4


#: Where the figures count what is in a place.
FIGURES = {"ready": "ready", "inflight": "inflight", "retrying": "inflight", "dead": "dead"}


def near(seconds: float):
    return pytest.approx(seconds, abs=DRIFT)


def stored(messages: list[bytes]) -> bytes:
    return b"".join(message + b"," for message in messages)


@dataclass
class Sealed:
    """A batch as the model knows it."""

    id: str
    messages: list[bytes]
    since: float | None
    sealed: float | None = None
    place: str = "ready"
    waits: bool = False  # claimed, and no delivery has begun
    claimed: int = 0  # the number of its last claim
    compressed: bool = False
    token: str | None = None
    deadline: float = 0.0
    attempts: int = 0
    requests: int = 0
    began: float | None = None
    failed: float | None = None  # when it failed first
    refusals: int = 0
    buried: float = 0.0
    cause: str = ""
    saved: int = 0  # bytes, by its compression
    harm: str = ""  # what a hand did to its messages: "gone", "cut" or "garbled"
    content: bytes | None = None  # what is stored instead of them
    lost: str = ""  # the place in which the figures count it, while its record is lost
    # Of a dead letter's messages: the digest of each kind, how many, and their group.
    kinds: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return int(self.id.split(".")[0])

    @property
    def reference(self) -> BatchRef:
        known = not self.lost
        return BatchRef(self.id, known * len(self.messages), known * len(stored(self.messages)))

    @property
    def counted_in(self) -> str:
        """The place in which the figures count its messages."""
        return self.lost or FIGURES[self.place]

    def latencies(self, now: float) -> list[float]:
        """Return how long its messages took, taken to have come evenly until it was sealed."""
        spread = 0.0 if self.sealed is None else self.sealed - self.since
        count = len(self.messages)
        return [now - self.since - spread * place / count for place in range(count)]

    def lose_record(self) -> None:
        self.lost, self.saved, self.since, self.sealed = FIGURES[self.place], 0, None, None
        self.token, self.began, self.failed, self.cause = None, None, None, ""
        self.attempts = self.requests = self.refusals = 0
        self.kinds = []


@dataclass
class Group:
    """A group of dead letters."""

    title: bytes
    messages: int = 0
    letters: set[str] = field(default_factory=set)


class Model:
    """The messages and batches of one source, where they are, and what closes it."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.accepted: dict[str, bytes] = {}
        self.attachments: dict[bytes, Attachments] = {}  # the messages that have something
        self.settled: dict[str, tuple[Settled, float]] = {}  # not called; until when left alone
        self.open: list[bytes] = []
        self.open_since = 0.0
        self.sealed = self.claims = 0
        self.batches: dict[str, Sealed] = {}
        self.delivered: list[bytes] = []
        self.purged: list[bytes] = []
        self.damaged: list[bytes] = []
        # Of batches that are gone with their records: by the place in which they are counted.
        self.uncounted: dict[str, list[bytes]] = {"ready": [], "inflight": [], "dead": []}
        self.forgotten: set[str] = set()  # the settled ones whose own record a hand has deleted
        self.saved = 0
        self.groups: dict[str, Group] = {}
        self.grouped = 0  # how many dead letters are in any group
        self.records_were_lost = False  # then a group may count messages that it has not any more
        self.count = Counter()
        self.attempts = Counter()
        self.violations = Counter()  # by kind, whose rule is last
        self.paused = False
        self.gate: tuple[float, str, str] = (0.0, "", "")  # until; what; cause
        self.probe: tuple[float, str] = (0.0, "")  # until; batch
        self.last_delivered: float | None = None
        self.latencies: list[float] = []  # of the delivered messages
        self.forget_state()
        self.begun: list[Lease] = []  # all that ever were
        self.lost: list[Lease] = []  # of these, those whose process is gone
        self.mark_at: int | None = None
        self.tail = None  # who follows the source
        self.untailed: list[bytes] = []  # what they have not read yet
        self.followers: dict[object, int] = {}  # the number of the last batch that each has read
        self.copies: set[int] = set()  # the sealed batches that are copied for them

    def forget_state(self) -> None:
        """Have what :state holds be as it is at the start, but for the sequence."""
        self.compressed_to = 0  # up to this number it was tried
        self.asked: tuple[float, str] = (0.0, "")  # of the endpoint's last wait: until; cause
        self.refused = ""  # the last that was refused
        self.ticked, self.unanswered = -1e6 * HOUR, 0
        self.limit, self.threshold, self.halved = 2.0, float(MAX_INFLIGHT), -1e6 * HOUR
        self.latency: float | None = None
        self.fastest: float | None = None
        self.failures, self.trips, self.tripped_cause = 0, Counter(), ""
        self.owner, self.format = "", 1

    def at(self, place: str) -> list[Sealed]:
        found = [batch for batch in self.batches.values() if batch.place == place]
        return sorted(found, key=lambda batch: (batch.number, batch.id))

    def holds(self, lease: Lease) -> bool:
        return lease.id in self.batches and self.batches[lease.id].token == lease.token

    @property
    def holders(self) -> list[Lease]:
        return [lease for lease in self.begun if self.holds(lease) and lease not in self.lost]

    @property
    def stale(self) -> list[Lease]:
        return [lease for lease in self.begun if not self.holds(lease)]

    def closed_for(self) -> float | None:
        return None if self.paused else max(self.gate[0] - self.now, 0.0)

    def own(self, messages: list[bytes], what: str = "callbacks") -> dict[int, bytes]:
        """Return the callbacks, or traces, of messages by their places, from 1 on."""
        found = (getattr(self.attachments.get(m, Attachments()), what) for m in messages)
        return {place: content for place, content in enumerate(found, 1) if content}

    def store(self, message: bytes) -> None:
        size = len(stored([*self.open, message])) - 1 + len(b"".join(ENVELOPE))
        if self.open and (len(self.open) == MAX_MESSAGES or size > MAX_BYTES):
            self.seal()
        if not self.open:
            self.open_since = self.now
        self.open.append(message)

    def looked(self, tail: object) -> None:
        """Note that a follower has read all batches: a copy is kept until all have read it."""
        self.followers[tail] = self.sealed
        read = min(self.followers.values())
        self.copies.difference_update(range(read - COPIES + 1, read + 1))

    def seal(self) -> None:
        self.sealed += 1
        name = str(self.sealed)
        self.batches[name] = Sealed(name, self.open, self.open_since, self.now)
        self.count["accepted"] += len(self.open)
        self.open = []
        if self.followers:
            self.copies.add(self.sealed)

    def join_groups(self, batch: Sealed, encoded: list) -> None:
        """Put a dead letter into its groups, as they are given to bury.lua."""
        batch.kinds = []
        for kind, count, group, title in zip(*[iter(encoded)] * 4, strict=True):
            is_told_apart = group in self.groups or len(self.groups) < MOST_GROUPS
            name = group if is_told_apart else "others"
            found = self.groups.setdefault(name, Group(title if is_told_apart else b""))
            found.messages += count
            found.letters.add(batch.id)
            batch.kinds.append((kind, count, name))
        self.grouped += bool(batch.kinds)

    def leave_groups(self, batch: Sealed) -> None:
        """Take a batch that is no dead letter any more out of its groups."""
        theirs = [name for name, group in self.groups.items() if batch.id in group.letters]
        self.grouped -= bool(theirs)
        self.count_out(batch, [])
        for name in theirs:
            if name in self.groups:  # its record is lost, and so are its counts
                self.groups[name].letters.discard(batch.id)
        self.forget_empty_groups()
        if not self.at("dead"):
            self.grouped = 0

    def thin_groups(self, batch: Sealed) -> None:
        """Count the messages that a dead letter has still."""
        own = Counter(kind_of(each).digest for each in batch.messages)
        named = {kind for kind, _, _ in batch.kinds}
        own["other"] = sum(count for kind, count in own.items() if kind not in named)
        kinds = [(kind, own[kind], group) for kind, _, group in batch.kinds if own[kind]]
        self.count_out(batch, kinds)

    def count_out(self, batch: Sealed, kept: list[tuple[str, int, str]]) -> None:
        for _, count, group in batch.kinds:
            self.groups[group].messages -= count
            self.groups[group].letters.discard(batch.id)
        for _, count, group in kept:
            self.groups[group].messages += count
            self.groups[group].letters.add(batch.id)
        batch.kinds = kept
        self.forget_empty_groups()

    def forget_empty_groups(self) -> None:
        self.groups = {name: group for name, group in self.groups.items() if group.letters}

    def lose(self, batch: Sealed) -> None:
        """Let a batch go that cannot be delivered."""
        del self.batches[batch.id]
        (self.uncounted[batch.lost] if batch.lost else self.damaged).extend(batch.messages)

    def count_lost(self) -> None:
        if self.at("ready") or self.at("inflight") or self.at("retrying"):
            return
        for place in ("ready", "inflight", *(() if self.at("dead") else ("dead",))):
            self.damaged += self.uncounted[place]
            self.uncounted[place] = []
        self.saved = 0

    def compressible(self) -> list[str]:
        ready = self.at("ready")
        if len(ready) < BACKLOG:
            return []
        old = range(self.compressed_to + 1, self.sealed - YOUNGEST + 1)
        return [batch.id for batch in ready if batch.number in old][:AT_ONCE]

    @property
    def concurrency(self) -> int:
        return max(min(int(self.limit), MAX_INFLIGHT), 1)

    @property
    def abandoned(self) -> list[Sealed]:
        """Batches that were claimed some time ago, and that nobody has begun to deliver."""
        until = self.now + LEASE - BEGIN + DRIFT
        found = (b for b in self.at("inflight") if not (b.token or b.lost) and b.deadline <= until)
        return sorted(found, key=lambda batch: (batch.claimed, batch.id))

    def claim_batches(self, batches: Iterable[Sealed], *, waits: bool) -> None:
        for batch in batches:
            batch.place, batch.deadline = "inflight", self.now + LEASE
            batch.waits, batch.claimed = waits, self.claims

    def put_back(self, batch: Sealed) -> None:
        batch.place, batch.token, batch.waits = "ready", None, False

    def answered_in(self, seconds: float) -> None:
        """Adapt the limit of concurrent requests to a good answer, before its batch is gone."""
        took = seconds * 1000
        latency = took if self.latency is None else self.latency * 0.8 + took * 0.2
        fastest = took if self.fastest is None else min(self.fastest * 1.02 + 1, took)
        self.latency, self.fastest = float(f"{latency:.1f}"), float(f"{fastest:.1f}")
        under_way = sum(not batch.waits for batch in self.at("inflight"))
        if under_way >= int(self.limit) and self.limit < MAX_INFLIGHT and took <= 2 * fastest + 50:
            step = 1 if self.limit < self.threshold else 1 / self.limit
            self.limit = float(f"{min(self.limit + step, MAX_INFLIGHT):.3f}")

    def failed_in(self, seconds: float) -> None:
        if self.now - seconds >= self.halved:
            self.limit = self.threshold = float(f"{max(self.limit / 2, 1):.3f}")
            self.halved = self.now

    def endpoint_answered(self) -> None:
        self.failures, self.trips = 0, Counter()
        self.probe, self.refused = (0.0, ""), ""

    def untried(self) -> list[Sealed]:
        return [batch for batch in self.at("ready") if not batch.cause]

    @property
    def open_first(self) -> bool:
        return bool(self.trips["refused"] and self.open and not self.untried())

    def end_probe_of(self, batch: Sealed) -> None:
        if self.probe[1] == batch.id:
            self.probe = (0.0, "")

    def closed_to(self, batch: Sealed) -> float | None:
        """For how long a begin finds the source closed; make the batch the probe if need be."""
        closed = self.closed_for()
        if closed == 0 and self.trips.total():
            if batch.cause and (self.untried() or self.open_first):
                closed = 0.001
            elif self.probe[0] <= self.now:
                self.probe = (self.now + LEASE, batch.id)
            elif self.probe[1] != batch.id:
                closed = self.probe[0] - self.now
        return closed

    def new_message(self, drawn: tuple[str, str, int, Attachments]) -> bytes:
        text, character, size, attachments = drawn
        name = f"m{len(self.accepted)}"
        padding = character * (size // len(character.encode()))
        event = f"E{len(text) % 4}"
        content = {"messageId": name, "type": "track", "event": event, "x": text + padding}
        message = self.accepted[name] = json.dumps(content, ensure_ascii=False).encode()
        if any(attachments):
            self.attachments[message] = attachments
        self.untailed.append(message)
        return message
