"""Compile a plan, and find how messages violate it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.model import COMMON, TYPES, Plan, Rule, Violation
from celery_segment.events.plan.problems import violation_of
from celery_segment.messages import TYPES as MESSAGES
from celery_segment.messages import Message, opened

__all__ = ["Judge"]

#: Violations of a message that are told.
MOST = 20


@dataclass(frozen=True)
class _Compiled:
    """A rule with its validators: its own, and those of the rules for all messages."""

    rule: Rule
    validators: tuple[Any, ...] = field(repr=False)


class Judge:
    """Finds violations of a plan.

    Raises:
        ConfigurationError: The schema of a rule is not valid, or the extra ``plan`` is not
            installed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._common = tuple(_compile(rule) for rule in plan.common)
        self._types = {rule.type for rule in plan.events}
        #: The oldest version of each, and all of them.
        self._oldest: dict[tuple[str, str], _Compiled] = {}
        self._versions: dict[tuple[str, str, int], _Compiled] = {}
        for rule in plan.events:
            compiled = _Compiled(rule, (_compile(rule), *self._common))
            self._versions[rule.id] = compiled
            self._oldest.setdefault((rule.type, rule.name), compiled)
        self._quick = {
            (MESSAGES[kind].__name__, name): (
                compiled.rule.part,
                [validator.is_valid for validator in compiled.validators],
            )
            for (kind, name), compiled in self._oldest.items()
            if not any(map(_judges_context, (compiled.rule, *plan.common)))
        }

    def accepts(self, message: Message) -> bool:
        """Return whether a message is known to violate nothing, in most cases and at little cost.

        False says nothing: what is sent of the message must be judged. It may have values that
        only encoding makes JSON of, or say which version of its event it is.
        """
        name = getattr(message, "event", None) or getattr(message, "name", None) or ""
        # Also of a class that is derived from the message's, as an import has them.
        found = self._quick.get((type(message).__name__, name))
        if found is None:
            return False
        context = message.context
        if type(context) is dict and "protocols" in context:
            return False
        part, are_valid = found
        content = {part: opened(getattr(message, part) or {})}
        try:
            for is_valid in are_valid:
                if not is_valid(content):
                    return False
        except (TypeError, ValueError):
            return False
        return True

    def rule_of(self, message: Mapping[str, Any]) -> Rule | None:
        """Return the rule for a message in its wire form; None if there is none."""
        found = self._find(message)
        return None if found is None else found.rule

    def violations(self, message: Mapping[str, Any]) -> list[Violation]:
        """Return how a message in its wire form violates the plan; an empty list where it does not.

        A type of messages for which there are no rules is not judged, but for the rules that
        apply to all.
        """
        found = self._find(message)
        if found is not None:
            validators = found.validators
        elif message["type"] in self._types:
            return [_unplanned(message)]
        elif message["type"] in TYPES:
            validators = self._common
        else:  # an alias has neither properties nor traits
            return []
        judged = {
            # A message without properties has none of them, which is not to lack the field.
            _PART[message["type"]]: {},
            **{name: message[name] for name in _PARTS if name in message},
        }
        for validator in validators:
            if not validator.is_valid(judged):
                return _told(validators, judged)
        return []

    def _find(self, message: Mapping[str, Any]) -> _Compiled | None:
        kind = message["type"]
        if kind not in self._types:
            return None
        name: str = message.get("event" if kind == "track" else "name", "")
        found = self._oldest.get((kind, name))
        if found is None:
            name = ""
            found = self._oldest.get((kind, name))
        protocols = message["context"].get("protocols") if "context" in message else None
        if found is None or not isinstance(protocols, Mapping):
            return found
        # Segment takes the oldest where the version is missing, or not in the plan.
        version = protocols.get("event_version")
        return self._versions.get((kind, name, version), found) if type(version) is int else found


_PARTS = ("properties", "traits", "context")
_PART = {kind: Rule(kind, "").part for kind in TYPES if kind != COMMON}


def _judges_context(rule: Rule) -> bool:
    return bool(rule.of("context")) or "context" in rule.schema.get("required", ())


def _unplanned(message: Mapping[str, Any]) -> Violation:
    kind = message["type"]
    path, what = ("event", "event") if kind == "track" else ("name", kind)
    return Violation(path, "unplanned", f"the tracking plan has no such {what}")


def _told(validators: Iterable[Any], judged: Mapping[str, Any]) -> list[Violation]:
    """Return the violations, each once: a rule for all messages may say the same."""
    found = (
        violation
        for validator in validators
        for error in validator.iter_errors(judged)
        for violation in violation_of(error, judged)
    )
    return list(dict.fromkeys(islice(found, MOST)))


def _compile(rule: Rule) -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        raise ConfigurationError(
            "segment_tracking_plan needs jsonschema-rs",
            hint="install it with pip install 'celery-segment[plan]'",
        ) from None
    try:
        # Nothing is fetched: a plan says all itself.
        return jsonschema_rs.validator_for(dict(rule.schema), validate_formats=True, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        text = getattr(error, "message", None) or str(error)
        at = ".".join(map(str, getattr(error, "instance_path", ())))
        where = f" at {at}" if at else ""
        raise ConfigurationError(
            f"the schema of {rule} is not valid{where}: {' '.join(text.split())}"
        ) from None
