"""A source's figures at one moment, and whether its batches may be delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from celery_segment.buffer.latency import Latency
from celery_segment.text import duration, one_line

__all__ = ["Amount", "Gate", "Snapshot"]


class Gate(msgspec.Struct, frozen=True):
    """Whether a source's batches may be delivered now.

    Attributes:
        state: "open"; "probing", while one batch at a time asks whether a failing
            endpoint is back; "closed", after failures or a refusal; "paused" by an operator;
            "off", if the source is not enabled in this process.
        reason: Why it is closed, or was when it is probing; else empty.
        seconds: Until it opens by itself: 0 when it is not closed, None while paused or off.
        refused: Whether it is closed because the endpoint refuses the configuration,
            which no waiting fixes.
    """

    state: Literal["open", "probing", "closed", "paused", "off"] = "open"
    reason: str = ""
    seconds: float | None = 0.0
    refused: bool = False

    def __str__(self) -> str:
        if self.seconds:
            return f"closed for {duration(self.seconds)}: {self.reason}"
        return f"probing after: {self.reason}" if self.state == "probing" else self.state

    @classmethod
    def of(cls, why: str, milliseconds: int, *, failing: bool, tripped_cause: str) -> Gate:
        """Read it as snapshot.lua gives it.

        Args:
            why: The gate's content: a kind, a space, and the reason for people.
            milliseconds: Until it opens; 0 when it is open, -1 until resumed.
            failing: Whether failures or refusals closed it before.
            tripped_cause: Why they did.
        """
        if milliseconds < 0:
            return cls("paused", seconds=None)
        if milliseconds == 0:
            return cls("probing", tripped_cause) if failing else cls()
        kind, _, reason = why.partition(" ")
        return cls("closed", reason, milliseconds / 1000, kind == "refused")


class Amount(msgspec.Struct, frozen=True):
    """Messages in one place: how many, their size as JSON, and the batches that they fill."""

    messages: int = 0
    bytes: int = 0
    batches: int = 0

    @classmethod
    def sum_of(cls, amounts: Sequence[Amount]) -> Amount:
        """Return the sum of amounts."""
        return cls(*map(sum, zip(*map(msgspec.structs.astuple, amounts), strict=True)))


@dataclass(frozen=True)
class Snapshot:
    """A source's figures at one moment.

    ``accepted = buffered + ready + inflight + delivered + dead + purged + damaged`` in
    messages, always; what ``dropped`` counts was never accepted.

    Attributes:
        accepted: Messages that were ever stored.
        buffered: In the open batch, which is being filled.
        ready: In sealed batches that wait for a worker.
        inflight: In batches that workers have claimed, those that wait for a retry among them.
        delivered: All that were delivered.
        dead: Dead letters at present.
        purged: Messages that were deleted: dead letters that an operator purged, or that were kept
            for ``segment_dead_retention``; and those of people who were forgotten.
        damaged: Messages of batches whose content in Redis was lost or cut off, by an eviction
            or a hand. They are counted and deleted; those whose count was lost, too, as soon as
            no other batch waits, and in their former place until then.
        saved_bytes: Memory that compressing ``ready`` and ``inflight`` batches saves.
        uncalled_batches: Settled batches whose callbacks have not run yet.
        refused_callbacks: Callbacks that were not run: neither signed nor allowed.
        buried: Messages that ever became dead letters.
        retries: Attempts after which the batch was tried again.
        splits: Refused batches that were halved to find the bad message.
        takeovers: Batches taken over from a worker whose lease had expired.
        dropped: Messages that calls dropped, by reason: "full", "unavailable"; "unknown" where
            Redis did not say whether it stored them, so that ``accepted`` may count them too;
            "invalid", as segment_on_invalid says; "unidentified" where the visitor of a web
            request has no id.
        violations: Messages that violated the tracking plan, by the rule: a keyword of JSON Schema,
            or "unplanned". ``BufferAdmin.violations`` tells more.
        attempts: Requests by the answer's status, else "timeout", "tls" or "network".
            Those whose worker was killed, or lost its lease, are not counted.
        oldest: Age of the oldest waiting message in seconds; 0 when none waits.
        last_delivered: When a batch was last delivered, in seconds since the epoch by
            Redis' clock; None before the first.
        latency: How long the delivered messages took from the call.
        gate: Whether batches may be delivered now.
        concurrency: How many requests may be under way at the same time at present.
        memory: The share of its ``maxmemory`` that Redis uses, from 0 to 1; None where it has no
            ``maxmemory``, or where it cannot be read.
        refusing: Whether calls are refused, since that is more than ``segment_max_memory_share``.
        owner: The name of the application whose worker was the first to deliver the source; ""
            if none was started.
        format: The number of the format in which the source is stored.
    """

    accepted: int
    buffered: Amount
    ready: Amount
    inflight: Amount
    delivered: Amount
    dead: Amount
    purged: int
    damaged: int
    saved_bytes: int
    uncalled_batches: int
    refused_callbacks: int
    buried: int
    retries: int
    splits: int
    takeovers: int
    dropped: Mapping[str, int]
    violations: Mapping[str, int]
    attempts: Mapping[str, int]
    oldest: float
    last_delivered: float | None
    latency: Latency
    gate: Gate
    concurrency: int
    memory: float | None
    refusing: bool
    owner: str
    format: int

    @property
    def waiting(self) -> int:
        """How many messages are neither delivered nor given up."""
        return self.buffered.messages + self.ready.messages + self.inflight.messages

    @classmethod
    def sum_of(cls, shards: Sequence[Snapshot]) -> Snapshot:
        """Return the figures of a source, given those of its shards.

        Of what is no number, that of the shard which is worst off.
        """
        if len(shards) == 1:
            return shards[0]

        def each(name: str) -> list[Any]:
            return [getattr(shard, name) for shard in shards]

        figures: dict[str, Any] = {name: Amount.sum_of(each(name)) for name in _AMOUNTS}
        summed = ("accepted", *_COUNTS, "concurrency")
        figures |= {name: sum(each(name)) for name in summed}
        figures |= {name: _summed(each(name)) for name in ("dropped", "violations", "attempts")}
        figures |= {name: max(each(name)) for name in ("oldest", "refusing", "format")}
        for name in ("last_delivered", "memory"):
            figures[name] = max((n for n in each(name) if n is not None), default=None)
        figures["latency"] = Latency.sum_of(each("latency"))
        gate = max(each("gate"), key=lambda gate: (gate.refused, _GATES.index(gate.state)))
        return cls(**figures, gate=gate, owner=max(each("owner"), key=bool))

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Snapshot:
        """Read the figures as snapshot.lua gives them, by name."""
        texts = ("gate", "tripped_cause", "owner")
        why, tripped_cause, owner = (one_line(raw.pop(name)) for name in texts)
        n = {name: int(value) for name, value in raw.items()}

        def amount(name: str) -> Amount:
            return Amount(*(n.get(f"{name}{unit}", 0) for unit in ("", "_bytes", "_batches")))

        def labelled(prefix: str) -> dict[str, int]:
            return {k.removeprefix(prefix): n[k] for k in sorted(n) if k.startswith(prefix)}

        figures: dict[str, Any] = {name: amount(name) for name in _AMOUNTS}
        figures |= {name: n.get(name, 0) for name in _COUNTS}
        return cls(
            accepted=n.get("accepted", 0) + n["buffered"],
            **figures,
            dropped={**dict.fromkeys(_DROPS, 0), **labelled("dropped_")},
            violations=labelled("violations:"),
            attempts=labelled("attempts:"),
            oldest=n["oldest"] / 1000,
            last_delivered=n["last_delivered"] / 1000 if "last_delivered" in n else None,
            latency=Latency.of(n),
            gate=Gate.of(why, n["closed"], failing=bool(n["failing"]), tripped_cause=tripped_cause),
            concurrency=n["concurrency"],
            memory=n["memory_used"] / n["memory_most"] if n["memory_most"] else None,
            refusing=bool(n["refusing"]),
            owner=owner,
            format=n["format"],
        )


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of each name's counts, the names in their order."""
    names = dict.fromkeys(name for each in counts for name in each)
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return {name: total[name] for name in names}


#: The states of a gate, the worst last.
_GATES = ("off", "open", "probing", "closed", "paused")
_DROPS = ("full", "unavailable", "unknown", "invalid", "unidentified")
_AMOUNTS = ("buffered", "ready", "inflight", "delivered", "dead")
_COUNTS = (
    *("purged", "damaged", "saved_bytes", "uncalled_batches", "refused_callbacks"),
    *("buried", "retries", "splits", "takeovers"),
)
