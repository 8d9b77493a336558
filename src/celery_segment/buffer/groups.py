"""The groups of a source's dead letters: by the reason, and by the type and event of messages.

A dead letter is in a group for each kind of message that it holds. Its record says how many of its
messages are in which group, so that whatever takes it, or some of its messages, away can count
them out of these. What the groups are is decided here, when the letter is buried; the scripts
store it (``_join_groups.lua``).

The number of groups is bounded: a batch tells ``bounds.MOST_KINDS`` kinds apart, and a source
``bounds.MOST_GROUPS`` groups, beyond which there is one for all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from celery_segment.buffer import bounds
from celery_segment.buffer.kinds import Kind
from celery_segment.buffer.types import DeadLetter
from celery_segment.text import one_line

__all__ = [
    "UNGROUPED",
    "DeadGroup",
    "Grouped",
    "encode_kinds",
    "group_of",
    "letter_of",
    "merged_groups",
    "with_ungrouped",
]

#: Numbers of a batch's messages by kind.
Kinds = Mapping[Kind, int]

#: The id of the group that stands for letters which are in none: they were given up before there
#: were groups.
UNGROUPED = "ungrouped"
#: That of the group for whatever is beyond the number of groups.
_OTHERS = "others"
_REASONS = {UNGROUPED: "not grouped", _OTHERS: "other reasons"}
#: The kind, and its name in a letter's record, of messages whose own kind is not told apart.
_REST, _REST_DIGEST = Kind("", ""), "other"
#: Characters of a reason.
_REASON = 200


class _Title(msgspec.Struct):
    reason: str = ""
    type: str = ""
    event: str = ""


@dataclass(frozen=True)
class Grouped:
    """By what the messages of a batch that is given up are grouped.

    Attributes:
        reason: Why it is given up, without what differs from batch to batch.
        kinds: The numbers of its messages by kind, as far as these are known.
    """

    reason: str
    kinds: Kinds = field(default_factory=dict, repr=False)

    def encode(self, count: int) -> list[str | bytes | int]:
        """Return the groups of a batch of so many messages, as bury.lua takes them."""
        common = sorted(self.kinds.items(), key=lambda each: -each[1])[: bounds.MOST_KINDS]
        named = {kind.digest: (kind, n) for kind, n in common}
        rest = count - sum(n for _, n in named.values())
        if rest < 0:  # the kinds are not those of this batch
            named, rest = {}, count
        if rest:
            named[_REST_DIGEST] = (_REST, rest)
        encoded: list[str | bytes | int] = [bounds.MOST_GROUPS]
        for digest, (kind, n) in named.items():
            title = msgspec.json.encode(_Title(one_line(self.reason)[:_REASON], *kind))
            group = hashlib.sha1(title, usedforsecurity=False).hexdigest()[:12]
            encoded += (digest, n, group, title)
        return encoded


@dataclass(frozen=True)
class DeadGroup:
    """Messages of a source that were given up for the same reason, and are of the same kind.

    Attributes:
        id: The group's id: the same in each shard, and whenever there is such a group.
        reason: Why they were given up, without the endpoint's own words; "not grouped" for what
            was given up before there were groups, "other reasons" beyond 500 groups.
        type: Their type, such as "track"; "" for messages of several kinds.
        event: The event's name; "" where they have none.
        messages: Their number.
        letters: The number of dead letters that hold them. One that holds messages of several
            kinds is in several groups.
        oldest: When the first of these letters was given up, in seconds since the epoch.
        youngest: When the last one was given up.
    """

    id: str
    reason: str
    type: str
    event: str
    messages: int
    letters: int
    oldest: float
    youngest: float

    @property
    def kind(self) -> str:
        """What the messages are: "track 'Order Completed'", "identify", "other messages"."""
        return str(Kind(self.type, self.event))


def encode_kinds(kinds: Kinds) -> list[str | int]:
    """Return how many messages of each kind are deleted, as forget.lua takes them."""
    return [each for kind, n in kinds.items() for each in (kind.digest, n)]


def group_of(group: bytes, title: bytes, *counts: int) -> DeadGroup:
    """Return a group as groups.lua returns it."""
    messages, letters, oldest, youngest = counts
    name, about = one_line(group), _title_of(title)
    return DeadGroup(
        name,
        _REASONS.get(name) or about.reason,
        about.type,
        about.event,
        messages,
        letters,
        oldest / 1000,
        youngest / 1000,
    )


def with_ungrouped(groups: Iterable[DeadGroup], dead: int, *rest: int) -> list[DeadGroup]:
    """Return the groups that have letters, and one for the letters that are in none.

    Args:
        groups: The groups.
        dead: The number of messages of all dead letters.
        rest: The number of letters that are in no group; when the first and the last of all
            letters were given up, in milliseconds.
    """
    found = [group for group in groups if group.letters]
    if rest[0]:
        messages = max(dead - sum(group.messages for group in found), 0)
        found.append(group_of(UNGROUPED.encode(), b"{}", messages, *rest))
    return found


def letter_of(
    batch: bytes, count: int, size: int, buried: int, reason: bytes, title: bytes, more: int
) -> DeadLetter:
    """Return a dead letter as dead.lua returns it.

    Args:
        batch: The batch's id. It is as it is stored: by it, an operator can purge the letter.
        count: The number of its messages.
        size: Their size as JSON.
        buried: When it was given up, in milliseconds.
        reason: Why it was.
        title: The title of the group of most of its messages.
        more: The number of its other groups; negative where it has none.
    """
    about = _title_of(title)
    kinds = str(Kind(about.type, about.event)) if more >= 0 else ""
    kinds += f" and {more:,} more" if more > 0 else ""
    name = batch.decode("utf-8", "replace")
    return DeadLetter(name, count, size, buried / 1000, one_line(reason), kinds)


def merged_groups(shards: Iterable[Iterable[DeadGroup]]) -> list[DeadGroup]:
    """Return the groups of all shards of a source."""
    merged: dict[str, DeadGroup] = {}
    for group in (group for shard in shards for group in shard):
        other = merged.setdefault(group.id, group)
        if other is not group:
            merged[group.id] = replace(
                other,
                messages=other.messages + group.messages,
                letters=other.letters + group.letters,
                oldest=min(other.oldest, group.oldest),
                youngest=max(other.youngest, group.youngest),
            )
    return list(merged.values())


def _title_of(title: Any) -> _Title:
    """Return a title as it was stored; what a hand has put there instead is none."""
    try:
        found = msgspec.json.decode(title, type=_Title)
    except (msgspec.MsgspecError, ValueError):
        return _Title()
    return _Title(one_line(found.reason), one_line(found.type), one_line(found.event))
