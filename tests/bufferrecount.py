"""Redis held to the model of a buffer: for tests/fault/test_state_machine.py."""

from __future__ import annotations

import json
import re
from collections import Counter

from buffermodel import LEASE, MAX_BYTES, MAX_INFLIGHT, MAX_MESSAGES, Model, Sealed, near, stored
from celery_segment.buffer import ENVELOPE, Amount, Gate, Lease, Settled, keys
from celery_segment.buffer.body import decompressed

TAG = keys.prefix("default")
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


def zset(found, name) -> dict[str, float]:
    return found[name][2] if name in found else {}


class Recount(Model):
    """A model, and what holds the keys and the figures of a real buffer to it."""

    def __init__(self, redis, buffer):
        super().__init__()
        self.redis, self.buffer = redis, buffer
        redis.delete(*redis.keys(f"{TAG}*"), "none")

    def settle(self, found: Settled | None, how: str, batch: Sealed, cause: str | None) -> None:
        """Check what a settlement gives to be called, and remember it."""
        has_hook = getattr(self.buffer.source, "on_failed" if cause else "on_delivered") is not None
        own = self.own(batch.messages)
        if not own and not has_hook:
            assert found is None
            return
        assert bytes(decompressed(found.body)) == (stored(batch.messages) if has_hook else b"")
        body = found.body
        count, size = batch.reference.count, batch.reference.size
        name = f"{how}:{batch.id}"
        assert Counter(found.callbacks) == Counter(own.values())
        assert found == Settled(name, batch.id, cause, found.callbacks, body, count, size)
        self.settled[name] = (found, self.now + LEASE)

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

    def check_keys(self, found):
        """No key but the documented ones, and none without an owner."""
        for name, (kind, _, _) in found.items():
            general = re.sub(r"^(batch|meta|callbacks|traces):.+", r"\1:<id>", name)
            general = re.sub(r"^settled:.+", "settled:<name>", general)
            assert KINDS.get(general) == kind, f"{name} is not a {kind} of keys.py"
        placed = [i for place in PLACES for i in zset(found, place)]
        # The messages of a batch that is still to be reported stay until then.
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
        for place in PLACES:
            assert sorted(zset(found, place)) == sorted(b.id for b in self.at(place)), place
        assert len(zset(found, "inflight")) <= MAX_INFLIGHT
        waiting = [batch.id for batch in self.at("inflight") if batch.waits]
        assert sorted(zset(found, "waiting")) == sorted(waiting)

    def check_messages(self, found):
        """Each accepted message is in one place, byte for byte as it was accepted."""
        waiting = [f"batch:{name}" for name in self.batches]
        contents = {name: entry[2] for name, entry in found.items() if name in waiting}
        contents = {name: bytes(decompressed(content)) for name, content in contents.items()}
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

    def check_attachments(self, found):
        """What is attached to a message is kept with it, wherever it went."""
        for what, key in (("callbacks", "callbacks"), ("trace", "traces")):
            batches = {f"{key}:{b.id}": b.messages for b in self.batches.values()}
            for name, messages in {key: self.open, **batches}.items():
                kept = {int(place): own for place, own in found.get(name, ("", 0, {}))[2].items()}
                assert kept == self.own(messages, what), name
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
        stored_at = {p: self.at(p) for p in PLACES}
        stored_at["inflight"] = [*stored_at["inflight"], *stored_at.pop("retrying")]
        places = {
            "buffered": self.open,
            "delivered": self.delivered,
            "purged": self.purged,
            **{p: [m for b in at for m in b.messages] for p, at in stored_at.items()},
        }
        assert snapshot.accepted == sum(map(len, places.values())) == len(self.accepted)
        batches = {place: len(at) for place, at in stored_at.items()}
        batches |= {"buffered": int(bool(self.open)), "delivered": self.count["delivered_batches"]}
        expected = {"purged": len(places.pop("purged")), "damaged": 0}
        expected |= {
            name: Amount(len(messages), len(stored(messages)), batches[name])
            for name, messages in places.items()
        }
        counted = ("retries", "splits", "takeovers", "buried")
        expected |= {name: self.count[name] for name in counted}
        less = [
            len(stored(b.messages)) - self.redis.strlen(f"{TAG}:batch:{b.id}")
            for b in (*stored_at["ready"], *stored_at["inflight"])
        ]
        expected["saved_bytes"] = sum(less)
        attempts = {status: n for status, n in self.attempts.items() if status}
        expected |= {"attempts": attempts, "uncalled_batches": len(self.settled)}
        assert (snapshot.last_delivered is None) == (not self.delivered)
        waiting = [batch.since for batch in (*stored_at["ready"], *stored_at["inflight"])]
        waiting += [self.open_since] if self.open else []
        expected["oldest"] = near(self.now - min(waiting, default=self.now))
        expected["gate"] = self.expected_gate()
        expected |= {
            "concurrency": self.concurrency,
            "memory": None,
            "refusing": False,
            "owner": "",
        }
        assert {name: getattr(snapshot, name) for name in expected} == expected

    def expected_gate(self):
        closed = self.closed_for()
        if closed is None:
            return Gate("paused", seconds=None)
        if closed == 0:
            return Gate("probing" if self.trips.total() else "open")
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
        if self.mark_at is not None:
            waiting = (*self.at("ready"), *self.at("inflight"), *self.at("retrying"))
            before = [len(b.messages) for b in waiting if b.number <= self.mark_at]
            assert self.buffer.admin.remaining(self.mark_at) == sum(before)
