"""The step of a message in which it is held to its source's tracking plan."""

from __future__ import annotations

from typing import Any

import msgspec

from celery_segment.config import Source
from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.policy import SEND, Decision, Policy, omit_unplanned
from celery_segment.events.plan.reading import read_plan
from celery_segment.messages import Message, decode, encode_value

__all__ = ["Step", "step_of"]

#: Decodes what is judged, in which no digit matters.
_decoder = msgspec.json.Decoder(dict[str, Any])


class Step:
    """Holds messages to a plan.

    Args:
        judge: Finds violations of the plan.
        policy: What becomes of messages that violate it.
    """

    def __init__(self, judge: Judge, policy: Policy) -> None:
        self._judge, self._policy = judge, policy

    def apply(self, message: Message, data: bytes) -> tuple[bytes, Decision]:
        """Return an encoded message, without what the plan omits, and what becomes of it."""
        if self._policy.omit_unplanned:
            data = self._omit(data)
        elif self._judge.accepts(message):
            return data, SEND
        return data, self._policy.decide(self._judge.violations(_decoder.decode(data)))

    def _omit(self, data: bytes) -> bytes:
        """Return an encoded message without the properties or traits that are not planned."""
        content = decode(data)
        rule = self._judge.rule_of(content)
        changed = None if rule is None else omit_unplanned(self._judge.plan, rule, content)
        return data if changed is None else encode_value(changed)


def step_of(source: Source) -> Step:
    """Return the step of a source that has a tracking plan.

    Raises:
        ConfigurationError: The plan cannot be read, or is not valid.
    """
    path = source.tracking_plan
    try:
        judge = Judge(read_plan(path or ""))
    except ConfigurationError as error:
        problem = f"segment_tracking_plan of source {source.name!r}: {error.problem}"
        raise ConfigurationError(problem, hint=error.hint) from None
    policy = Policy(source.on_unplanned, source.on_violation, source.omit_unplanned_properties)
    return Step(judge, policy)
