"""The forms in which Segment gives tracking plans are read as one."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from celery_segment import ConfigurationError
from celery_segment.events.plan.model import Plan
from celery_segment.events.plan.reading import parse_plan, read_plan

PLANS = Path(__file__).parents[2] / "plans"
SHAPES = json.loads((PLANS / "shapes.json").read_text("utf-8"))
LIBRARY = json.loads((PLANS / "library.json").read_text("utf-8"))


def unwrapped(content):
    """The plan as Typewriter stores it: each schema is that of the properties."""
    content = copy.deepcopy(content)
    for rule in content["rules"]:
        schema = rule["jsonSchema"]
        about = {key: schema[key] for key in ("$schema", "description")}
        rule["jsonSchema"] = {**schema["properties"]["properties"], **about}
    return content


def former(content):
    """The plan as the former Config API returned it."""
    events = []
    for rule in content["rules"]:
        schema = dict(rule["jsonSchema"])
        about = schema.pop("description")
        one = {"name": rule["key"], "version": rule["version"], "description": about}
        events.append({**one, "rules": schema})
    return {"display_name": content["name"], "rules": {"events": events}}


def of(plan):
    return plan.name, {
        rule.id: (rule.content, rule.schema.get("description")) for rule in plan.rules
    }


def test_the_three_forms_are_read_alike():
    plan = parse_plan(SHAPES)
    assert len(plan.rules) == 25
    for other in (unwrapped(SHAPES), former(SHAPES), {"data": SHAPES}):
        assert of(parse_plan(other)) == of(plan)
    events = parse_plan(former(SHAPES)["rules"])
    assert of(events)[1] == of(plan)[1]


def test_all_types_of_rules_are_read():
    plan = parse_plan(LIBRARY)
    assert plan.name == "Library"
    assert [str(rule) for rule in plan.rules] == [
        "common",
        "group",
        "identify",
        'page "Catalogue"',
        'track "Book Lent"',
        'track "Book Lent" version 2',
    ]
    assert [rule.id for rule in plan.common] == [("common", "", 1)]
    assert plan.events[1].content["required"] == ["email"]


def test_the_former_form_has_rules_for_users_groups_and_all():
    schema = {"type": "object", "properties": {"traits": {"required": ["email"]}}}
    plan = parse_plan({"rules": {"identify": schema, "group": schema, "global": schema}})
    assert [rule.type for rule in plan.rules] == ["common", "group", "identify"]
    assert plan.rules[2].content == {"required": ["email"]}


def test_definitions_stay_where_they_are_referred_to():
    schema = {
        "type": "object",
        "properties": {"isbn": {"$ref": "#/definitions/isbn"}},
        "definitions": {"isbn": {"type": "string"}},
    }
    (rule,) = parse_plan({"rules": [{"type": "TRACK", "key": "E", "jsonSchema": schema}]}).rules
    assert rule.schema["definitions"] == {"isbn": {"type": "string"}}
    assert rule.content["properties"] == schema["properties"]


def test_a_property_called_properties_is_one():
    schema = {"type": "object", "properties": {"properties": {"type": "array"}}}
    (rule,) = parse_plan({"rules": [{"type": "TRACK", "key": "E", "jsonSchema": schema}]}).rules
    assert rule.content["properties"] == {"properties": {"type": "array"}}


def rule(**changed):
    entry = {"type": "TRACK", "key": "E", "version": 1, "jsonSchema": {"type": "object"}}
    return {"rules": [{key: value for key, value in {**entry, **changed}.items() if value != ...}]}


WITHIN = "rules[0].jsonSchema.properties.a"


def within(**keywords):
    """A plan with a property that has these keywords."""
    return rule(jsonSchema={"properties": {"a": keywords}})


BAD = [
    (5, "not a tracking plan"),
    ({}, "not a tracking plan: it must have rules: a list"),
    ({"rules": 5}, "not a tracking plan"),
    ({"rules": [5]}, "rules[0] must be an object"),
    (rule(type=...), "rules[0].type must be one of TRACK, IDENTIFY, GROUP, PAGE, SCREEN, COMMON"),
    (rule(type="track it"), "rules[0].type must be"),
    (rule(key=...), "rules[0].key must be the name of the event"),
    (rule(key=5), "rules[0].key must be the name"),
    (rule(version="1"), "rules[0].version must be a whole number"),
    (rule(version=1.5), "rules[0].version must be a whole number"),
    (rule(version=True), "rules[0].version must be a whole number"),
    (rule(jsonSchema=...), "rules[0].jsonSchema is missing"),
    (rule(jsonSchema="{}"), "rules[0].jsonSchema must be an object"),
    (rule(jsonSchema={"properties": 5}), "rules[0].jsonSchema.properties must be an object"),
    (within(properties=[]), f"{WITHIN}.properties must be an object"),
    (within(type=5), f"{WITHIN}.type must be a text or a list"),
    (within(type=["string", []]), f"{WITHIN}.type must have texts alone"),
    (within(required=True), f"{WITHIN}.required must be a list"),
    (within(enum="a"), f"{WITHIN}.enum must be a list"),
    (within(anyOf={}), f"{WITHIN}.anyOf must be a list"),
    (within(oneOf=[{"description": 5}]), f"{WITHIN}.oneOf[0].description must be a text"),
    (within(items={"enum": 5}), f"{WITHIN}.items.enum must be a list"),
    (
        {"rules": [*rule()["rules"], *rule()["rules"]]},
        'rules[1]: there is another rule for track "E"',
    ),
    ({"rules": {"events": 5}}, "rules.events must be a list"),
    ({"events": [5]}, "events[0] must be an object"),
    ({"rules": {"events": [{}]}}, "rules.events[0].name must be the name of the event"),
    ({"rules": {"events": [{"name": "E", "rules": 5}]}}, "rules.events[0].rules must be an object"),
    ({"rules": {"identify_traits": [{}]}}, "rules.identify_traits is not supported: get the plan"),
]


@pytest.mark.parametrize(("content", "text"), BAD)
def test_what_is_no_plan_is_refused_with_its_place(content, text):
    with pytest.raises(ConfigurationError) as raised:
        parse_plan(content)
    assert str(raised.value).startswith(text)


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "plan.json"
    for content, text in ((b"{", "is not JSON: "), (b"\xff", "is not JSON: "), (b"[]", "not a ")):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"plan\.json") as raised:
            read_plan(path)
        assert text in str(raised.value)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_plan(tmp_path / "none.json")


def test_a_plan_may_be_empty():
    assert parse_plan({"rules": []}) == Plan("", ())
