"""The step in which messages are held to a tracking plan, as a producer knows it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from celery_segment.buffer import Violations
from celery_segment.config import Source
from celery_segment.errors import ValidationError
from celery_segment.messages import Message
from celery_segment.producer.places import log_once
from celery_segment.signals import plan_violated

__all__ = [
    "PlanDecision",
    "PlanStep",
    "PlanViolation",
    "Plans",
    "Quarantine",
    "hold_to",
    "kind_of",
    "reasons_of",
    "refuse",
]


class PlanStep(Protocol):
    """Holds messages to a tracking plan."""

    def apply(self, message: Message, data: bytes, /) -> tuple[bytes, PlanDecision]:
        """Return an encoded message, maybe changed, and what becomes of it."""


class PlanDecision(Protocol):
    """What becomes of a message under a tracking plan."""

    @property
    def action(self) -> str:
        """Return "allow", "log", "raise" or "quarantine"."""

    @property
    def reason(self) -> str:
        """Return how it violates the plan; empty where it does not."""

    @property
    def violations(self) -> Sequence[PlanViolation]:
        """Return all ways in which it does."""


class PlanViolation(Protocol):
    """A violation of a tracking plan, without a value of the message."""

    @property
    def path(self) -> str:
        """Return the path of the value."""

    @property
    def rule(self) -> str:
        """Return the keyword of JSON Schema, or "unplanned"."""

    @property
    def problem(self) -> str:
        """Return what the value must be."""


#: Gets the bytes of a message that is to be quarantined, and why.
Quarantine = Callable[[bytes, PlanDecision], None]
#: Gets a message that violates its plan, and how.
Note = Callable[[Message, PlanDecision], None]


def hold_to(
    plan: PlanStep, source: str, message: Message, data: bytes, quarantine: Quarantine, note: Note
) -> bytes | None:
    """Hold a message to a plan, and tell of what it violates.

    Args:
        plan: The plan.
        source: The name of the source.
        message: The message.
        data: Its bytes.
        quarantine: Gets it where it is to be quarantined.
        note: Gets it with its violations, unless its event need not be planned.

    Returns:
        Its bytes as the plan has them; None where it is quarantined.

    Raises:
        ValidationError: It is to be refused; the error has the path and the rule, and no value.
    """
    data, decision = plan.apply(message, data)
    if decision.violations:
        _tell(source, type(message).__name__.lower(), message, decision, note)
    if decision.action == "quarantine":
        quarantine(data, decision)
        return None
    return data


def refuse(_data: bytes, decision: PlanDecision) -> None:
    """Refuse what would be quarantined, for whoever can keep it, such as an import.

    Raises:
        ValidationError: Always.
    """
    first = decision.violations[0]
    raise ValidationError(first.path, first.problem, first.rule)


def reasons_of(decision: PlanDecision) -> tuple[str, str]:
    """Return why a message is quarantined, and the same for all messages of this kind."""
    first = decision.violations[0]
    path = re.sub(r"\[\d+\]", "[]", first.path)
    says = "violates the tracking plan"
    return f"{says}: {decision.reason}", f"{says}: {path}: {first.problem}"


def kind_of(message: Message, decision: PlanDecision) -> Violations:
    """Return as what the violation of a message is counted."""
    first = decision.violations[0]
    name = getattr(message, "event", None) or getattr(message, "name", None) or ""
    return Violations.of(type(message).__name__.lower(), name, first.path, first.rule)


def _tell(source: str, kind: str, message: Message, decision: PlanDecision, note: Note) -> None:
    first = decision.violations[0]
    name = getattr(message, "event", None) or getattr(message, "name", None)
    if first.rule != "unplanned" or decision.action != "allow":
        note(message, decision)
    plan_violated.send(
        sender=source,
        type=kind,
        name=name,
        path=first.path,
        rule=first.rule,
        problem=first.problem,
        action=decision.action,
    )
    if decision.action == "raise":
        raise ValidationError(first.path, first.problem, first.rule)
    if decision.action == "log":
        log_once(logging.ERROR, kind, f"violates the tracking plan: {decision.reason}")


class Plans:
    """The steps of an application's sources, each made once."""

    def __init__(self) -> None:
        self._steps: dict[str, PlanStep] = {}

    def step(self, source: Source) -> PlanStep | None:
        """Return what holds a source's messages to its tracking plan; None where it has none.

        Raises:
            ConfigurationError: The plan cannot be read, or is not valid.
        """
        if source.tracking_plan is None:
            return None
        found = self._steps.get(source.name)
        if found is None:
            # Only an application that has a plan loads what judges by it.
            from celery_segment.events.plan.step import step_of

            # Atomic: of two threads that come here, both get the first one's.
            found = self._steps.setdefault(source.name, step_of(source))
        return found
