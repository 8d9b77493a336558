"""Note how the calls of a test keep to a tracking plan, and of which of its events they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from celery_segment.config import Source
from celery_segment.messages import Message, decode
from celery_segment.producer.places import place
from celery_segment.producer.plans import PlanDecision, PlanStep

__all__ = ["Planned", "Violated", "WatchedPlan", "planned"]


class Violated(NamedTuple):
    """A violation of a tracking plan by a call. It has no value of the message.

    Attributes:
        source: The name of the source whose plan it is.
        type: The type of the message.
        event: The name of the event, page or screen; empty where it has none.
        path: The path of the value, such as ``properties.products[0].price``.
        rule: The rule that it violates, such as ``minimum``; ``unplanned`` where the plan has none
            for the message.
        problem: What the value must be.
        place: The file and line that makes the call.
    """

    source: str
    type: str
    event: str
    path: str
    rule: str
    problem: str
    place: str

    def __str__(self) -> str:
        """Return it as a line of a report."""
        event = f" {self.event!r}" if self.event else ""
        return f"{self.type}{event} at {self.place}: {self.path}: {self.problem} [{self.rule}]"


class Planned(NamedTuple):
    """What a tracking plan goes by to find the rule of a message.

    Attributes:
        path: The path of the plan.
        type: The type of the message.
        name: The name of the event, page or screen; empty where it has none.
        version: The version of the event; None where the message has none.
    """

    path: str
    type: str
    name: str
    version: int | None


#: The messages that were held to a tracking plan while calls were recorded, and how many.
planned: Counter[Planned] = Counter()


class WatchedPlan:
    """Holds messages to a source's tracking plan, and tells of each violation.

    Args:
        source: The source.
        step: Holds its messages to the plan.
        violating: Gets each violation, but those that a call raises.
    """

    def __init__(
        self, source: Source, step: PlanStep, violating: Callable[[Violated], object] | None
    ) -> None:
        self._source, self._step, self._violating = source, step, violating

    def apply(self, message: Message, data: bytes) -> tuple[bytes, PlanDecision]:
        """Return an encoded message, maybe changed, and what becomes of it."""
        content = decode(data)
        data, decision = self._step.apply(message, data)
        if decision.action == "raise":
            # Who calls gets the error, unless what is not valid is but logged.
            if self._source.on_invalid == "log":
                self._tell_all(content, decision)
            return data, decision
        protocols = content.get("context", {}).get("protocols")
        version = protocols.get("event_version") if isinstance(protocols, dict) else None
        version = version if type(version) is int else None
        path = os.path.abspath(self._source.tracking_plan or "")  # noqa: PTH100 - text
        planned[Planned(path, content["type"], _name(content), version)] += 1
        self._tell_all(content, decision)
        return data, decision

    def _tell_all(self, content: dict[str, Any], decision: PlanDecision) -> None:
        for each in decision.violations:
            self._tell(content, each.path, each.rule, each.problem)

    def _tell(self, content: dict[str, Any], path: str, rule: str, problem: str) -> None:
        if rule == "unplanned" and self._source.on_unplanned == "allow":
            return
        if self._violating is not None:
            what = (self._source.name, content["type"], _name(content))
            self._violating(Violated(*what, path, rule, problem, place()))


def _name(content: dict[str, Any]) -> str:
    """Return the name of a message's event, page or screen; empty where it has none."""
    return str(content.get("event" if content["type"] == "track" else "name", ""))
