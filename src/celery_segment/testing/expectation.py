"""Compare the messages of a test with an expected one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from celery_segment.config import DEFAULT_SOURCE
from celery_segment.messages import TYPES, TypedEvent, decode
from celery_segment.messages.encoding import encode_value
from celery_segment.messages.fields import IDS, parse

__all__ = ["Expectation", "Tracked", "lines", "listed", "named"]

#: Maximum number of messages in a report, and of characters of a message's content.
SHOWN, WIDTH = 20, 120


class Tracked(dict[str, Any]):
    """A message in its wire form, as it would have been sent.

    Attributes:
        source: The name of its source.
    """

    def __init__(self, content: Mapping[str, Any], source: str) -> None:
        super().__init__(content)
        self.source = source


class Expectation:
    """An expected message.

    Args:
        type_: The type of the message.
        arguments: The arguments that its call must have had, at least.

    Raises:
        TypeError: The call has no such argument.
    """

    def __init__(self, type_: str, arguments: Mapping[str, Any]) -> None:
        kind = TYPES[type_]
        self._type = type_
        self._names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
        unknown = arguments.keys() - self._names.keys() - {"source"}
        if unknown:
            known = ", ".join([*self._names, "source"])
            raise TypeError(
                f"{min(unknown)!r} is not an argument of {type_}; its arguments are {known}"
            )
        self._expected = {name: _as_sent(name, value) for name, value in arguments.items()}

    def differences(self, message: Tracked) -> list[str]:
        """Return the differences between a message and the expectation, one per line."""
        if message["type"] != self._type:
            return [f"type: expected {self._type}, was {message['type']}"]
        actual = {name: message.get(sent) for name, sent in self._names.items()}
        return [*_differences(self._expected, {**actual, "source": message.source}, "")]

    def report(self, messages: Sequence[Tracked]) -> str:
        """Return an error text for an expectation that none of the messages meets."""
        event = self._expected.get("event")
        what = f"{self._type} {event!r}" if event else self._type
        same = [m for m in messages if m["type"] == self._type and event in (None, m.get("event"))]
        if same:
            closest = min((self.differences(m) for m in same), key=len)
            text = f"no {what} matches; the closest one differs:{lines(closest)}"
        else:
            others = [str(m["event"]) for m in messages if m["type"] == "track"]
            near = get_close_matches(event or "", others, n=1)
            text = f"there is no {what}" + (f"; did you mean {near[0]!r}?" if near else "")
        return f"{text}\nmessages of this test:{listed(messages)}"


def listed(messages: Sequence[Tracked]) -> str:
    """Return a list of messages as text, one per line."""
    return lines([f"{n}. {_shown(m)}" for n, m in enumerate(messages, 1)]) or " nothing"


def named(event: str | TypedEvent | type[TypedEvent]) -> str:
    """Return the name of an event that is given as such, or as a class or an object of it."""
    if isinstance(event, str):
        return event
    name = event.__segment_name__
    if name is None:
        kind = event if isinstance(event, type) else type(event)
        raise TypeError(f"{kind.__name__} has no name: it is a base of other events")
    return name


def lines(texts: Sequence[str]) -> str:
    """Return texts as indented lines: the first of them, and how many there are more."""
    more = len(texts) - SHOWN
    shown = [*texts[:SHOWN], f"and {more} more"] if more > 0 else texts
    return "".join(f"\n    {text}" for text in shown)


def _shown(message: Tracked) -> str:
    subject = ("event", "category", "name", "groupId", "previousId")
    who = ("userId", "anonymousId")
    words = [message["type"], *(repr(message[name]) for name in subject if name in message)]
    words += [f"{name}={message[name]!r}" for name in who if name in message]
    words += [f"source={message.source!r}"] if message.source != DEFAULT_SOURCE else []
    content = repr(message.get("properties") or message.get("traits") or "")
    return " ".join(
        [*words, content if len(content) <= WIDTH else f"{content[:WIDTH]}…"]
    ).removesuffix(" ''")


def _as_sent(name: str, value: Any) -> Any:
    """Return an argument as it is in a decoded message, where for example a UUID is text."""
    if name in IDS:
        return parse(name, value)
    return decode(b'{"value":%b}' % encode_value(value))["value"]


def _differences(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name, value in expected.items():
            yield from _differences(value, actual.get(name), f"{path}.{name}" if path else name)
    elif expected != actual:
        was = "was not given" if actual is None else f"was {actual!r}"
        yield f"{path}: expected {expected!r}, {was}"
