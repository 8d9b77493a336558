"""Redis held to the model of a buffer: for tests/fault/test_state_machine.py."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import reduce
from itertools import accumulate, chain
from operator import add

import pytest

from buffermodel import (
    DRIFT,
    FIGURES,
    LEASE,
    MAX_BYTES,
    MAX_INFLIGHT,
    MAX_MESSAGES,
    MOST_GROUPS,
    Model,
    Sealed,
    near,
    stored,
)
from celery_segment.buffer import BUCKETS, ENVELOPE, UNGROUPED, Amount, Gate, Lease, Settled, keys
from celery_segment.buffer.body import decompressed

#: Each key and its type, as the docstring of `keys` has them.
KINDS = dict(re.findall(r"^    :(\S+) +(string|hash|zset)\b", keys.__doc__, re.MULTILINE))

PLACES = ("ready", "inflight", "retrying", "dead")

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


def name_of(message: bytes) -> str:
    return json.loads(message)["messageId"]


def zset(found, name) -> dict[str, float]:
    return found[name][2] if name in found else {}


class Recount(Model):
    """A model, and what holds the keys and the figures of a real buffer to it."""

    def __init__(self, redis, buffer):
        super().__init__()
        self.redis, self.buffer = redis, buffer
        self.tag = keys.prefix_of(buffer.source)
        redis.delete(*redis.keys(f"{self.tag}*"), "none")

    def settle(self, found: Settled | None, how: str, lease: Lease, cause: str | None) -> None:
        """Check what a settlement gives to be called, and remember it."""
        has_hook = getattr(self.buffer.source, "on_failed" if cause else "on_delivered") is not None
        own = self.own(self.batches[lease.id].messages)
        if not own and not has_hook:
            assert found is None
            return
        body = lease.body if has_hook and how != "damaged" else b""
        name, about = f"{how}:{lease.id}", (lease.count, lease.size)
        assert Counter(found.callbacks) == Counter(own.values())
        assert found == Settled(name, lease.id, lease.token, cause, found.callbacks, body, *about)
        self.settled[name] = (found, self.now + LEASE)
        self.forgotten.discard(name)

    def dump(self, tag: str = "") -> dict[str, tuple]:
        """Return the type, the seconds to live and the content of every key of a source."""
        tag = tag or self.tag
        found = {}
        for key, kind, left, content in self.redis.eval(DUMP, 1, tag):
            value = content
            if isinstance(content, list):
                pairs = zip(content[::2], content[1::2], strict=True)
                scores = kind == b"zset"
                value = {i.decode(): float(s) for i, s in pairs} if scores else dict(pairs)
            found[key.decode().removeprefix(f"{tag}:")] = (kind.decode(), left / 1000, value)
        return found

    def about(self, tag: str = "") -> dict[str, tuple]:
        """Return what ``dump`` is to be equal to while nothing changes."""
        return {n: (kind, near(left), v) for n, (kind, left, v) in self.dump(tag).items()}

    def unchanged(self, call):
        """Call what is to change nothing at all."""
        before = self.about()
        try:
            return call()
        finally:
            assert self.dump() == before, "it changed something"

    def check_keys(self, found):
        """No key but the documented ones, and none without an owner."""
        for name, (kind, _, _) in found.items():
            general = re.sub(r"^(batch|meta|callbacks|traces|dead|tailed):.+", r"\1:<id>", name)
            general = re.sub(r"^settled:.+", "settled:<name>", general)
            general = re.sub(r"^history:\d+$", "history:<n>", general)
            assert KINDS.get(general) == kind, f"{name} is not a {kind} of keys.py"
        placed = [i for place in PLACES for i in zset(found, place)]
        # The messages of a batch that is still to be reported stay until then.
        kept = [s.id for s, _ in self.settled.values() if s.cause is None and s.body]
        batches = self.batches.values()
        # A record that was deleted may begin anew.
        lost = [b.id for b in batches if b.lost and f"meta:{b.id}" not in found]
        gone = [b.id for b in batches if b.harm == "gone"]
        with_callbacks = [b.id for b in batches if self.own(b.messages)]
        with_traces = [b.id for b in batches if self.own(b.messages, "trace")]
        for owned, owners in (
            ("batch:", [name for name in (*placed, *kept) if name not in gone]),
            ("meta:", [name for name in placed if name not in lost]),
            ("callbacks:", with_callbacks),
            ("traces:", with_traces),
            ("settled:", self.settled.keys() - self.forgotten),
            ("tailed:", map(str, self.copies)),
        ):
            names = [name.removeprefix(owned) for name in found if name.startswith(owned)]
            assert sorted(names) == sorted(owners), f"a {owned} key without owner, or the reverse"
        assert sorted(zset(found, "tail").values()) == sorted(self.followers.values())
        # Whether there are any messages is looked at by who forgets them, not here.
        unreported = [s.id for s, _ in self.settled.values() if s.cause is None and not s.reported]
        indexed = {*placed, *(unreported if self.buffer.source.on_delivered else ())}
        assert zset(found, "batches") == dict.fromkeys(indexed, 0)
        assert sorted(zset(found, "settled")) == sorted(self.settled)
        for place in PLACES:
            assert sorted(zset(found, place)) == sorted(b.id for b in self.at(place)), place
        assert len(zset(found, "inflight")) <= MAX_INFLIGHT
        waiting = [batch.id for batch in self.at("inflight") if batch.waits]
        assert sorted(zset(found, "waiting")) == sorted(waiting)

    def check_messages(self, found):
        """Each accepted message is in one place, byte for byte as it was accepted."""
        names = Counter()
        for batch in self.batches.values():
            if batch.harm:
                content = found.get(f"batch:{batch.id}", ("string", 0.0, None))[2]
                assert content == batch.content, "what a hand has changed is changed again"
                names.update(map(name_of, batch.messages))
        waiting = [f"batch:{name}" for name, batch in self.batches.items() if not batch.harm]
        contents = {name: entry[2] for name, entry in found.items() if name in waiting}
        contents = {name: bytes(decompressed(content)) for name, content in contents.items()}
        contents["open"] = found["open"][2] if "open" in found else b""
        for key, content in contents.items():
            parsed = [m["messageId"] for m in json.loads(b"[%b]" % content[:-1])]
            assert content == stored([self.accepted[name] for name in parsed])
            names.update(parsed)
            if key == "open":
                assert content == stored(self.open)
                continue
            batch = self.batches[key.removeprefix("batch:")]
            assert content == stored(batch.messages)
            meta = {} if batch.lost else found[f"meta:{batch.id}"][2]
            known = (int(meta.get(b"count", 0)), int(meta.get(b"bytes", 0)))
            assert known == (batch.reference.count, batch.reference.size)
            assert 1 <= len(parsed) <= MAX_MESSAGES
            assert len(content) - 1 + len(b"".join(ENVELOPE)) <= MAX_BYTES
        over = (*self.delivered, *self.purged, *self.damaged, *chain(*self.uncounted.values()))
        names.update(map(name_of, over))
        assert names == dict.fromkeys(self.accepted, 1), "a message is lost or doubled"

    def check_attachments(self, found):
        """What is attached to a message is kept with it, wherever it went."""
        for what, key in (("callbacks", "callbacks"), ("trace", "traces")):
            batches = {f"{key}:{b.id}": b.messages for b in self.batches.values()}
            for name, messages in {key: self.open, **batches}.items():
                kept = {int(place): own for place, own in found.get(name, ("", 0, {}))[2].items()}
                assert kept == self.own(messages, what), name
        for name, (settled, _) in self.settled.items():
            if name in self.forgotten:
                continue
            fields = found[f"settled:{name}"][2]
            own = [content for place, content in fields.items() if place.isdigit()]
            assert Counter(own) == Counter(settled.callbacks)

    def check_groups(self, found):
        """The groups of the dead letters are those of their messages, and count each one."""
        dead, fields = zset(found, "dead"), found.get("groups", ("", 0, {}))[2]
        assert int(fields.get(b"letters", 0)) == self.grouped
        titles = {name.decode(): fields[name] for name in fields if name != b"letters"}
        assert titles == {name: group.title for name, group in self.groups.items()}
        assert len(titles) <= MOST_GROUPS + 1
        counts = {name: group.messages for name, group in self.groups.items()}
        assert zset(found, "grouped") == counts
        for name, group in self.groups.items():
            assert zset(found, f"dead:{name}") == {each: dead[each] for each in group.letters}
        sets = {name for name in found if name.startswith("dead:")}
        assert sets == {f"dead:{name}" for name in self.groups}
        for batch in self.batches.values():
            kinds = found.get(f"meta:{batch.id}", ("hash", 0.0, {}))[2].get(b"kinds", b"")
            assert kinds.decode() == " ".join(f"{k} {n} {g}" for k, n, g in batch.kinds)
            assert batch.place == "dead" or not kinds

    def check_dead_groups(self, dead: int):
        """What an operator sees of them: they have all dead messages, and all letters."""
        found = {group.id: group for group in self.buffer.admin.dead_groups()}
        others = found.pop(UNGROUPED, None)
        counts = {name: (group.messages, len(group.letters)) for name, group in self.groups.items()}
        assert {g.id: (g.messages, g.letters) for g in found.values()} == counts
        assert (others.letters if others else 0) == len(self.at("dead")) - self.grouped
        if not self.records_were_lost:
            grouped = sum(group.messages for group in found.values())
            assert grouped + (others.messages if others else 0) == dead
        for name, group in self.groups.items():
            letters = self.buffer.admin.dead_letters(group=name)
            assert {letter.id for letter in letters} == group.letters
            times = [letter.buried for letter in letters]
            assert (found[name].oldest, found[name].youngest) == (min(times), max(times))

    def check_holders(self, found):
        """A batch in flight has one holder or none, another batch none."""
        for batch in self.batches.values():
            meta = found.get(f"meta:{batch.id}", ("hash", 0.0, {}))[2]
            token = meta.get(b"token", b"").decode()
            holders = [h for h in self.begun if h.id == batch.id and h.token == token]
            assert [h.token for h in holders] == ([batch.token] if batch.token else [])
            assert not token or batch.place == "inflight"

    def check_gate(self, found):
        """What closes the source, and what a tick has claimed, lasts as long as it should."""
        what, cause = self.gate[1:]
        lasting = {
            "gate": (self.gate[0], f"{what} {cause}"),
            "probe": self.probe,
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
        snapshot = self.buffer.admin.snapshot()
        places = {
            "buffered": self.open,
            "delivered": self.delivered,
            "purged": self.purged,
            "damaged": self.damaged,
            **{place: [*messages] for place, messages in self.uncounted.items()},
        }
        batches = Counter(FIGURES[batch.place] for batch in self.batches.values())
        for batch in self.batches.values():
            places[batch.counted_in] += batch.messages
        figures = [getattr(snapshot, name) for name in places]
        counted = [each.messages if isinstance(each, Amount) else each for each in figures]
        assert snapshot.accepted == sum(counted) == len(self.accepted)
        batches |= {"buffered": int(bool(self.open)), "delivered": self.count["delivered_batches"]}
        expected = {name: len(places.pop(name)) for name in ("purged", "damaged")}
        expected["refused_callbacks"] = 0
        expected |= {
            name: Amount(len(messages), len(stored(messages)), batches[name])
            for name, messages in places.items()
        }
        counted = ("retries", "splits", "takeovers", "buried")
        expected |= {name: self.count[name] for name in counted}
        expected["saved_bytes"] = self.saved
        attempts = {status: n for status, n in self.attempts.items() if status}
        rules = Counter()
        for kind, messages in self.violations.items():
            rules[kind[-1]] += messages
        expected |= {"violations": rules}
        expected |= {"attempts": attempts, "uncalled_batches": len(self.settled)}
        assert (snapshot.last_delivered is None) == (not self.delivered)
        waiting = [*self.at("ready")[:1], *self.at("inflight"), *self.at("retrying")]
        waiting = [batch.since for batch in waiting if batch.since is not None]
        waiting += [self.open_since] if self.open else []
        expected["oldest"] = near(self.now - min(waiting, default=self.now))
        expected["gate"] = self.expected_gate()
        expected |= {
            "concurrency": self.concurrency,
            "memory": None,
            "refusing": False,
            "owner": self.owner,
            "format": self.format,
        }
        assert {name: getattr(snapshot, name) for name in expected} == expected

        self.check_latency(snapshot.latency)
        self.check_history(snapshot)

    def check_latency(self, found):
        """Each delivered message is in the bucket of its latency; real time passes meanwhile."""
        assert found.count == len(self.delivered) == len(self.latencies)
        assert found.sum == pytest.approx(sum(self.latencies), abs=DRIFT * found.count)
        for bound, up_to in zip(BUCKETS, accumulate(found.counts), strict=True):
            least, most = (
                sum(each <= bound + off for each in self.latencies) for off in (-DRIFT, DRIFT)
            )
            assert least <= up_to <= most, bound

    def check_history(self, snapshot):
        """What was counted in each period makes up the totals: real time is what it goes by."""
        total = reduce(add, self.buffer.admin.history(1))
        assert total.accepted == self.count["accepted"]
        assert total.delivered == snapshot.delivered.messages
        assert total.buried == snapshot.buried
        assert total.attempts == snapshot.attempts
        assert total.latency.counts == snapshot.latency.counts
        assert total.latency.sum == pytest.approx(snapshot.latency.sum)

    def expected_gate(self):
        closed = self.closed_for()
        if closed is None:
            return Gate("paused", seconds=None)
        if closed == 0:
            return Gate("probing", self.tripped_cause) if self.trips.total() else Gate("open")
        return Gate("closed", self.gate[2], near(closed), self.gate[1] == "refused")

    def past_of(self, batch: Sealed, found: Lease) -> dict:
        """Return what a lease says of what happened to a batch, and to others."""
        others = sum(len(self.at(place)) for place in ("ready", "inflight", "retrying"))
        ago = None if self.last_delivered is None else near(self.now - self.last_delivered)
        later = None not in (batch.failed, ago) and self.last_delivered > batch.failed
        if batch.failed == self.last_delivered:  # which was first, its time does not tell
            later = found.others_delivered
        return {
            "refusals": batch.refusals,
            "others_delivered": later,
            "alone": others + bool(self.open) == 1,
            "delivered_ago": ago,
        }

    def check_lists(self):
        letters = [(d.id, d.messages, d.bytes, d.reason) for d in self.buffer.admin.dead_letters()]
        dead = [(b.id, b.reference.count, b.reference.size, b.cause) for b in self.at("dead")]
        assert sorted(letters) == sorted(dead)
        newest_first = self.buffer.admin.dead_letters(newest_first=True)
        assert newest_first == self.buffer.admin.dead_letters()[::-1]
        # Those of other ways are told by their rule in the snapshot alone.
        kinds = Counter()
        for kind, messages in self.violations.items():
            kinds[kind if kind[0] else ("",) * 4] += messages
        assert {each[:-1]: each.messages for each in self.buffer.admin.violations()} == kinds
        self.check_dead_groups(sum(len(batch.messages) for batch in self.at("dead")))
        if self.mark_at is not None:
            waiting = (*self.at("ready"), *self.at("inflight"), *self.at("retrying"))
            before = [b.reference.count for b in waiting if b.number <= self.mark_at]
            assert self.buffer.admin.remaining(self.mark_at) == sum(before)
