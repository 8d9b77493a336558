"""A tracking plan as values: its rules, and how a message violates one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COMMON", "TRAITS", "TYPES", "Plan", "Rule", "Violation"]

#: The type of rules that apply to all messages.
COMMON = "common"
#: The types of messages whose rules are about traits; the others have properties.
TRAITS = frozenset({"identify", "group"})
#: The types that a rule may be of.
TYPES = ("track", "identify", "group", "page", "screen", COMMON)


@dataclass(frozen=True)
class Rule:
    """A rule of a plan.

    Attributes:
        type: The type of the messages it is for, or ``COMMON``.
        name: The name of the event, page or screen; empty for all of the type.
        version: The version of the event.
        schema: The JSON schema of what a message has of ``properties``, ``traits`` and
            ``context``.
    """

    type: str
    name: str
    version: int = 1
    schema: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Return what a person calls the rule: ``track "Order Completed"``."""
        title = f'{self.type} "{self.name}"' if self.name else self.type
        return f"{title} version {self.version}" if self.version != 1 else title

    @property
    def id(self) -> tuple[str, str, int]:
        """What no other rule of the plan has."""
        return self.type, self.name, self.version

    @property
    def part(self) -> str:
        """The field of a message that its content is in."""
        return "traits" if self.type in TRAITS else "properties"

    @property
    def content(self) -> Mapping[str, Any]:
        """The schema of the properties or traits."""
        return self.of(self.part)

    def of(self, part: str) -> Mapping[str, Any]:
        """Return the schema of a field of a message."""
        found = self.schema.get("properties", {}).get(part)
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Plan:
    """A tracking plan.

    Attributes:
        name: Its name, if it has one.
        rules: Its rules, sorted by type, name and version.
    """

    name: str
    rules: tuple[Rule, ...] = field(default=(), repr=False)

    @property
    def common(self) -> tuple[Rule, ...]:
        """The rules that apply to all messages."""
        return tuple(rule for rule in self.rules if rule.type == COMMON)

    @property
    def events(self) -> tuple[Rule, ...]:
        """The other rules."""
        return tuple(rule for rule in self.rules if rule.type != COMMON)


@dataclass(frozen=True)
class Violation:
    """A violation of a plan by a message. It has no value of the message.

    Attributes:
        path: The path of the value, such as ``properties.products[0].price``.
        rule: The keyword of JSON Schema that the value violates; ``unplanned`` where the plan has
            no rule for the message.
        problem: What the value must be.
    """

    path: str
    rule: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"

    @property
    def is_unplanned(self) -> bool:
        """Whether the plan has no rule for the message."""
        return self.rule == "unplanned"
