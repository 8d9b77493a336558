"""A plan of 25 rules of every shape: class, schema and policy judge alike what is sent."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import msgspec
import pytest

from celery_segment.events import Event
from celery_segment.events.plan.generating import generate
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.policy import Policy
from celery_segment.events.plan.reading import read_plan
from celery_segment.events.plan.step import Step
from celery_segment.messages import Track, encode, opened
from plansamples import invalid, valid

TESTS = Path(__file__).parents[2]
PLAN = read_plan(TESTS / "plans" / "shapes.json")
#: What is generated is committed, so that each type checker reads it.
MODULE = TESTS / "typing" / "generated_events.py"


@pytest.fixture(scope="module")
def classes():
    """The generated classes, by the events' names."""
    spec = spec_from_file_location("generated_events", MODULE)
    module = sys.modules["generated_events"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield {
        value.__segment_name__: value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    del sys.modules["generated_events"]


STEP = Step(Judge(PLAN), Policy("raise", "raise"))


def is_accepted(name, properties):
    """Whether a plain call with these properties is stored under the plan."""
    message = Track(
        message_id="m",
        timestamp="2026-03-01T09:30:00.000Z",
        user_id="u",
        event=name,
        properties=properties,
    )
    _, decision = STEP.apply(message, encode(message))
    return decision.action == "allow"


def is_convertible(kind, properties):
    try:
        msgspec.convert(properties, kind)
    except msgspec.ValidationError:
        return False
    return True


VALID = [(rule.name, valid(rule.content)) for rule in PLAN.rules]
INVALID = [
    (rule.name, path, value)
    for rule in PLAN.rules
    for path, value in invalid(rule.content)
    if isinstance(value, dict)
]


def test_there_are_as_many_as_are_to_be_judged():
    assert len(VALID) == 25
    assert len(INVALID) >= 100


def test_what_is_generated_is_what_is_committed():
    text = generate(PLAN, str(MODULE))
    assert text == MODULE.read_text("utf-8")
    assert generate(PLAN, str(MODULE)) == text


def test_each_rule_has_a_class(classes):
    assert sorted(classes) == sorted(rule.name for rule in PLAN.rules)


def test_what_is_valid_is_so_for_all(classes):
    for name, properties in VALID:
        assert is_convertible(classes[name], properties), name
        assert is_accepted(name, properties), name
        sent = msgspec.convert(properties, classes[name])
        event, version, content = sent.__segment_event__()
        assert (event, version, opened(content)) == (name, None, properties)


def test_what_is_not_valid_is_so_for_all(classes):
    alike = [
        (name, path, is_convertible(classes[name], value), is_accepted(name, value))
        for name, path, value in INVALID
    ]
    assert [each for each in alike if each[2] or each[3]] == []
