"""Messages are held to a plan: which rule, what is violated where, and what becomes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from celery_segment import ConfigurationError
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.model import Violation
from celery_segment.events.plan.policy import Policy, omit_unplanned
from celery_segment.events.plan.reading import parse_plan, read_plan
from celery_segment.events.plan.step import Step, step_of
from celery_segment.messages import TYPES, build_message, decode, encode
from configuring import source

PLAN = read_plan(Path(__file__).parents[2] / "plans" / "library.json")
JUDGE = Judge(PLAN)
APP = {"app": {}}
SECRET = "ann@example.com"


def message(kind, *, version=None, context=None, **given):
    context = dict(APP if context is None else context)
    if version is not None:
        context["protocols"] = {"event_version": version}
    return build_message(TYPES[kind], user_id="u", context=context, **given)


def violations(kind, judge=JUDGE, **given):
    return [str(each) for each in judge.violations(decode(encode(message(kind, **given))))]


def plan_of(schema, kind="TRACK", key="E"):
    return parse_plan({"rules": [{"type": kind, "key": key, "jsonSchema": schema}]})


def test_a_message_is_held_to_the_rule_for_its_event():
    assert violations("track", event="Book Lent", properties={"isbn": "3"}) == []
    assert violations("track", event="Book Lent") == ["properties.isbn: is required"]
    assert violations("track", event="Book Lost") == ["event: the tracking plan has no such event"]


def test_the_version_is_that_of_the_context_or_else_the_oldest():
    lent = {"event": "Book Lent", "properties": {"isbn": "3"}}
    assert violations("track", version=2, **lent) == ["properties.days: is required"]
    for version in (1, 3, "2", 2.5, True, None):
        assert violations("track", version=version, **lent) == []
    assert violations("track", context={**APP, "protocols": 5}, **lent) == []


def test_rules_for_all_messages_apply_to_all():
    wrong = {"properties": {"isbn": "3", "branch": 5}}
    (text,) = violations("track", event="Book Lent", **wrong)
    assert text == "properties.branch: must be a string"
    assert violations("page", name="Catalogue", context={}) == ["context.app: is required"]
    # Of screens there is no rule of their own.
    assert violations("screen", name="Any", properties={"branch": 5}) == [text]
    assert violations("screen", name="Any") == []


def test_traits_are_those_of_users_and_groups():
    assert violations("identify") == ["traits.email: is required"]
    assert violations("identify", traits={"email": SECRET}) == []
    assert violations("group", group_id="g", traits={"seats": "5"}) == [
        "traits.seats: must be an integer"
    ]


def test_a_page_has_the_rule_of_its_name():
    assert violations("page", name="Catalogue", properties={"url": 5}) == [
        "properties.url: must be a string"
    ]
    assert violations("page", name="Other") == ["name: the tracking plan has no such page"]
    every = Judge(plan_of({"required": ["url"]}, "PAGE", ""))
    assert violations("page", every, name="Other") == ["properties.url: is required"]


def test_an_alias_is_not_judged():
    alias = {"type": "alias", "previousId": "a", "userId": "u", "context": {}}
    assert JUDGE.violations(alias) == []


SAID = {
    "type": ({"type": ["string", "null"]}, 5, "properties.a: must be null or a string"),
    "enum": ({"enum": ["x", 1]}, SECRET, "properties.a: must be one of 'x', 1"),
    "const": ({"const": "x"}, SECRET, "properties.a: must be 'x'"),
    "pattern": ({"pattern": "^a"}, "b", "properties.a: must match the pattern ^a"),
    "format": ({"format": "email"}, SECRET[:3], "properties.a: must have the format email"),
    "minimum": ({"minimum": 3}, 2, "properties.a: must be at least 3"),
    "exclusiveMaximum": ({"exclusiveMaximum": 3}, 3, "properties.a: must be less than 3"),
    "multipleOf": ({"multipleOf": 5}, 3, "properties.a: must be a multiple of 5"),
    "minLength": ({"minLength": 5}, "abc", "properties.a: must have at least 5 characters"),
    "maxItems": ({"maxItems": 1}, [1, 2], "properties.a: must have at most 1 items"),
    "uniqueItems": ({"uniqueItems": True}, [1, 1], "properties.a: must have no item twice"),
    "items": ({"items": {"type": "string"}}, ["x", 1], "properties.a[1]: must be a string"),
    "anyOf": (
        {"anyOf": [{"type": "null"}]},
        1,
        "properties.a: does not meet 'anyOf' of the tracking plan",
    ),
    "false": (False, 1, "properties.a: must be left out"),
    "additional": (
        {"properties": {"x": {}}, "additionalProperties": False},
        {SECRET: 1, "b": 1},
        [
            "properties.a.<key 0>: is not in the tracking plan",
            "properties.a.b: is not in the tracking plan",
        ],
    ),
    "within": (
        {"additionalProperties": {"type": "string"}},
        {"b": "x", SECRET: 1},
        "properties.a.<key 1>: must be a string",
    ),
}


@pytest.mark.parametrize("rule", SAID)
def test_a_violation_has_the_path_and_the_rule_and_never_the_value(rule):
    schema, value, said = SAID[rule]
    judge = Judge(plan_of({"type": "object", "properties": {"a": schema}}))
    found = violations("track", judge, event="E", properties={"a": value})
    assert found == ([said] if isinstance(said, str) else said)
    assert SECRET not in repr(
        judge.violations(decode(encode(message("track", event="E", properties={"a": value}))))
    )


def test_names_of_the_plan_are_shown_whatever_they_are():
    name = "0000---odd (property) name of the plan!"
    schema = {"properties": {name: {"properties": {"2a": {"type": "string"}}}}, "required": [name]}
    judge = Judge(plan_of({"type": "object", **schema}))
    assert violations("track", judge, event="E") == [f"properties.{name}: is required"]
    properties = {SECRET: 1, name: {SECRET: 2, "2a": 5}}
    assert violations("track", judge, event="E", properties=properties) == [
        f"properties.{name}.2a: must be a string"
    ]


def test_no_more_than_some_violations_are_told():
    judge = Judge(plan_of({"type": "object", "properties": {"a": {"items": {"type": "string"}}}}))
    assert len(violations("track", judge, event="E", properties={"a": [1] * 1_000})) == 20


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"properties": {"a": {"type": "strung"}}},
            "is not valid at properties.properties.properties.a.type: ",
        ),
        ({"properties": {"a": {"pattern": "("}}}, "is not valid"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "is not valid: "),
        ({"properties": {"a": {"$ref": "#/definitions/a"}}}, "is not valid: "),
    ],
)
def test_a_schema_that_is_not_valid_is_refused_by_its_rule(schema, text):
    with pytest.raises(ConfigurationError) as raised:
        Judge(plan_of(schema))
    assert str(raised.value).startswith(f'the schema of track "E" {text}')


def test_values_are_judged_as_they_are_sent():
    schema = {
        "type": "object",
        "properties": {"at": {"type": "string", "format": "date-time"}, "n": {"type": "number"}},
        "required": ["at"],
    }
    step = Step(Judge(plan_of(schema)), Policy("raise", "raise"))
    at = datetime(2026, 3, 1, tzinfo=timezone.utc)
    for properties in ({"at": at}, {"at": at, "n": Decimal("0.1")}, {"at": at, "x": {1: "a"}}):
        sent = message("track", event="E", properties=properties)
        assert step.apply(sent, encode(sent))[0] == encode(sent)
    sent = message("track", event="E", properties={"at": at, "n": {1, 2}})
    decision = step.apply(sent, encode(sent))[1]
    assert (decision.action, decision.reason) == ("raise", "properties.n: must be a number")


UNPLANNED = [Violation("event", "unplanned", "the tracking plan has no such event")]
VIOLATION = [Violation("properties.a", "type", "must be a string")]


@pytest.mark.parametrize("action", ["allow", "log", "raise"])
def test_the_policy_decides_by_what_is_violated(action):
    assert Policy(action, "allow").decide(UNPLANNED).action == action
    assert Policy(action, "allow").decide(VIOLATION).action == "allow"
    assert Policy("allow", action).decide(VIOLATION).action == action
    assert Policy("allow", action).decide(UNPLANNED).action == "allow"
    for policy in (Policy(action, action), Policy("raise", "raise", omit_unplanned=True)):
        assert policy.decide([]).action == "allow"
        assert policy.decide([]).reason == ""


def test_a_decision_says_why_in_a_line():
    decision = Policy("log", "log").decide([*VIOLATION, *UNPLANNED, *VIOLATION])
    assert decision.reason == "properties.a: must be a string (and 2 more)"
    assert Policy("log", "log").decide(VIOLATION).reason == "properties.a: must be a string"


THINGS = {"type": "object", "properties": {"name": {"type": "string"}}}
NAMED = plan_of(
    {
        "type": "object",
        "properties": {
            "thing": THINGS,
            "things": {"type": "array", "items": THINGS},
            "any": {"type": "object"},
            "sizes": {
                "type": "object",
                "properties": {"s": {}},
                "additionalProperties": {"type": "integer"},
            },
        },
    }
)


def omitted(properties, plan=NAMED):
    changed = omit_unplanned(plan, plan.events[0], {"type": "track", "properties": properties})
    return changed and changed["properties"]


def test_what_is_not_planned_is_omitted_within_objects_too():
    planned = {
        "thing": {"name": "a"},
        "things": [{"name": "b"}, 5],
        "any": {"x": {"y": 1}},
        "sizes": {"m": 1},
    }
    assert omitted(planned) is None
    given = {
        **planned,
        "other": 1,
        "thing": {"name": "a", "x": 1},
        "things": [{"name": "b", "x": 1}, 5],
    }
    assert omitted(given) == planned
    assert omitted({"thing": 5, "things": {"x": 1}}) is None


def test_where_nothing_is_named_nothing_is_omitted():
    assert omitted({"x": 1}, plan_of({"type": "object"})) is None


def test_what_is_planned_for_all_messages_is_not_omitted():
    (lent, *_) = (rule for rule in PLAN.rules if rule.name == "Book Lent")
    given = {"properties": {"isbn": "3", "branch": "b", "other": 1}}
    assert omit_unplanned(PLAN, lent, given) == {"properties": {"isbn": "3", "branch": "b"}}


def test_a_message_is_judged_without_what_is_omitted():
    closed = plan_of({"type": "object", "properties": {"a": {}}, "additionalProperties": False})
    sent = message("track", event="E", properties={"a": Decimal("0.1234567890123456789"), "b": 1})
    data, decision = Step(Judge(closed), Policy("raise", "raise", True)).apply(sent, encode(sent))
    assert decision.action == "allow"
    assert data == encode(sent).replace(b',"b":1', b"")
    kept, decision = Step(Judge(closed), Policy("raise", "raise")).apply(sent, encode(sent))
    assert kept == encode(sent)
    assert decision.reason == "properties.b: is not in the tracking plan"


def test_a_sources_step_names_the_setting_where_its_plan_is_no_plan(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("[]", "utf-8")
    with pytest.raises(
        ConfigurationError, match=r"segment_tracking_plan of source 'default': .*plan\.json: not a"
    ):
        step_of(source(segment_tracking_plan=str(path)))
    path.write_text(json.dumps({"rules": []}), "utf-8")
    step_of(source(segment_tracking_plan=str(path)))


def test_without_the_extra_the_error_says_what_to_install():
    program = (
        "import sys\n"
        "sys.modules['jsonschema_rs'] = None\n"
        "from celery_segment.events.plan.judging import Judge\n"
        "from celery_segment.events.plan.reading import parse_plan\n"
        "try:\n"
        "    Judge(parse_plan({'events': [{'name': 'E'}]}))\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == (
        "segment_tracking_plan needs jsonschema-rs:"
        " install it with pip install 'celery-segment[plan]'\n"
    )


def test_without_a_plan_nothing_that_judges_is_loaded():
    program = (
        "import sys, celery_segment, celery_segment.runtime\n"
        "print({'celery_segment.events.plan', 'jsonschema_rs'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"
