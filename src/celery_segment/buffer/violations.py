"""How messages violated their source's tracking plan, as Redis counts it: by event and reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from celery_segment.buffer.kinds import EVENT, TYPE
from celery_segment.text import one_line

__all__ = ["OTHERS", "Violations", "decode_violations", "encode_violations", "sum_violations"]

#: Characters of a path and of a rule.
_PATH, _RULE = 150, 40
#: The index of a list.
_INDEX = re.compile(r"\[\d+\]")


class Violations(NamedTuple):
    """Messages that violated the tracking plan in one way. Nothing in it is a message's value.

    Of a message that violates it in several ways, the first one counts.

    Attributes:
        type: The type of the messages, such as "track"; "" where there are too many kinds to tell
            them apart, and so is what follows.
        event: The name of the event, page or screen; "" where they have none.
        path: The path of the value, such as ``properties.products[].price``.
        rule: The keyword of JSON Schema, or "unplanned".
        messages: How many messages.
    """

    type: str
    event: str
    path: str
    rule: str
    messages: int = 1

    @classmethod
    def of(cls, kind: str, event: str, path: str, rule: str) -> Violations:
        """Return a message's, without the indexes of lists and what is too long."""
        path = _INDEX.sub("[]", path)
        return cls(_cut(kind, TYPE), _cut(event, EVENT), _cut(path, _PATH), _cut(rule, _RULE))


#: Those of which the kind is not told.
OTHERS = Violations("", "", "", "", 0)

_Kind = tuple[str, str, str, str]


def encode_violations(found: Iterable[Violations]) -> list[str | bytes | int]:
    """Return what violations.lua is given."""
    flat: list[str | bytes | int] = []
    for each in found:
        kind = msgspec.json.encode(each[:-1]) if each.type else b""
        flat += [each.rule, kind, each.messages]
    return flat


def decode_violations(fields: Mapping[bytes, Any]) -> list[Violations]:
    """Read what Redis has counted; the most frequent first."""
    return _sorted({_kind_of(kind): int(number) for kind, number in fields.items()})


def sum_violations(shards: Iterable[Iterable[Violations]]) -> list[Violations]:
    """Return those of a source, given those of its shards."""
    total: Counter[_Kind] = Counter()
    for each in shards:
        for each_kind in each:
            total[each_kind[:-1]] += each_kind.messages
    return _sorted(total)


def _sorted(counts: Mapping[_Kind, int]) -> list[Violations]:
    found = [Violations(*kind, messages) for kind, messages in counts.items()]
    return sorted(found, key=lambda each: (-each.messages, each))


def _kind_of(field: bytes) -> _Kind:
    if not field:
        return ("", "", "", "")
    try:
        found = msgspec.json.decode(field, type=_Kind)
    except msgspec.DecodeError:  # what a hand has put there
        return ("", "", one_line(field), "")
    return (one_line(found[0]), one_line(found[1]), one_line(found[2]), one_line(found[3]))


def _cut(text: str, most: int) -> str:
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
