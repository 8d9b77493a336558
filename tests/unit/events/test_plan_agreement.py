"""Shapes of schemas of which a class can say all, or only a part: class, plan and check agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from celery_segment.events.plan.drift import classes_of, drift
from celery_segment.events.plan.generating import generate
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.reading import read_plan

PLAN = read_plan(Path(__file__).parents[2] / "plans" / "odd.json")
#: The rules of which a class can say all; of the others, the plan alone judges a part.
SAID = ("Said By Class", "Draft 4")

NUMBERS = [*range(-1, 12), -2.5, 0.1, 0.125, 0.5, 1.5, 2.5, 7.5, 8.5, 2**53 - 1]
LARGE = [2**53 + 3, 2**62, -(2**63), 2**63]
TEXTS = [
    *("", "a", "Fol", "Folio", "Folio 8", "Quarto", "Fo.12", "F\n", 'it\'s "so" \\', "F@x", "é@x"),
    *("٣", "x@٣", "\x01", "\x85@x", "été", "éFolio", "ann@example.com", "2026-03-01T09:30:00Z"),
    *("2026-03-01T09:30:00+01:00", "noon Z", "\ufeffF"),
]
ONES = [None, True, False, *NUMBERS, *TEXTS]
LISTS = [
    *([], [1], [2], [8], [9], ["a"], [None], [1, 1], ["a", 1], [1, 2], ["a", "b"], [1, 2, 3, 4]),
    *([[]], [[1]], [[2, 3]], [["a"]], [[1.5]], [8, ["a"]], [[[1]]], [{}], [2, None]),
]
OBJECTS = [
    *({}, {"a": 0}, {"a": 1}, {"a": 2}, {"a": "a"}, {"a": None}, {"b": 1}, {"a": 2, "b": 2}),
    *({"x": "a"}, {"x": 1}, {"a": 2, "x": []}, {'b"\\': 1}, {"a": 2, 'b"\\': 1}, {"b": {}}),
    *({"enum": 2}, {"enum": 1}, {"const": "a"}, {"const": 1}, {"$ref": 1}, {"$ref": "#/nowhere"}),
    *({"properties": None}, {"left": {"left": {"a": 1}}}, {"left": {"left": {"a": "a"}}}),
    *({"left": 1}, {"right": {"a": "a"}}),
]
VALUES = [*ONES, *LARGE, *LISTS, *OBJECTS]


@pytest.fixture(scope="module")
def classes():
    """The classes that are generated."""
    module = sys.modules["odd_events"] = ModuleType("odd_events")
    exec(generate(PLAN, "odd_events.py"), vars(module))  # noqa: S102 - what is to be tested
    yield classes_of(module)
    del sys.modules["odd_events"]


def test_what_is_generated_does_not_drift(classes):
    assert sorted(cls.__segment_name__ for cls in classes) == sorted(r.name for r in PLAN.rules)
    assert list(drift(PLAN, classes)) == []


@pytest.fixture(scope="module")
def judged(classes):
    """The rule, property and value, and what class and plan say of it."""
    judge = Judge(PLAN)
    found = []
    for cls in classes:
        name = cls.__segment_name__
        (rule,) = (each for each in PLAN.rules if each.name == name)
        decode = msgspec.json.Decoder(cls).decode
        for each in rule.content["properties"]:
            for value in VALUES:
                content = {each: value}
                message = {"type": "track", "event": name, "properties": content}
                planned = not judge.violations(message)
                found.append((name, each, value, _takes(decode, content), planned))
    return found


def _takes(decode, content):
    try:
        decode(json.dumps(content))
    except msgspec.ValidationError:
        return False
    return True


def test_a_class_refuses_nothing_that_the_plan_accepts(judged):
    assert [each[:3] for each in judged if each[4] and not each[3]] == []


def test_a_class_refuses_what_it_can(judged):
    laxer = [each[:3] for each in judged if each[3] and not each[4]]
    assert [each for each in laxer if each[0] in SAID] == []
    # Where this fails, a class says more now: its property is to be moved to what is said.
    left = {each[:2] for each in judged if each[0] not in SAID}
    assert left == {(name, each) for name, each, _ in laxer}
