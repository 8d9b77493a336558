"""Each way in which classes and a plan, or two plans, can differ has its line."""

from __future__ import annotations

import copy
import sys
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from celery_segment import ConfigurationError
from celery_segment.events import UNSET, Event, Meta, Properties, Traits, UnsetType, field
from celery_segment.events.plan.diff import diff
from celery_segment.events.plan.drift import classes_of, drift
from celery_segment.events.plan.generating import generate
from celery_segment.events.plan.naming import class_name, field_names
from celery_segment.events.plan.outline import outline
from celery_segment.events.plan.reading import parse_plan

LENT = {
    "type": "object",
    "required": ["isbn", "reader"],
    "properties": {
        "isbn": {"type": "string", "pattern": "^97"},
        "reader": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}},
        },
        "days": {"type": ["integer", "null"], "minimum": 1},
        "price": {"type": "number"},
        "copies": {"type": "array", "items": {"type": "string"}},
        "kind": {"type": "string", "enum": ["folio", "quarto"]},
    },
}


def entry(schema, key="Book Lent", kind="TRACK", version=1):
    return {"type": kind, "key": key, "version": version, "jsonSchema": schema}


PLAN = parse_plan({"rules": [entry(LENT)]})


class Reader(Properties):
    name: str


def lent(**changed):
    """Make the class of the event, with some of its fields changed: None leaves one out."""
    fields = {
        "isbn": Annotated[str, Meta(pattern="^97")],
        "reader": Reader,
        "days": Annotated[int, Meta(ge=1)] | UnsetType | None,
        "price": float | UnsetType,
        "copies": list[str] | UnsetType,
        "kind": Literal["folio", "quarto"] | UnsetType,
    }
    fields |= changed
    optional = {"days", "price", "copies", "kind"}
    namespace = {name: UNSET for name in fields if name in optional and fields[name] is not None}
    namespace |= {name: kind[1] for name, kind in fields.items() if isinstance(kind, tuple)}
    annotations = {
        name: kind[0] if isinstance(kind, tuple) else kind
        for name, kind in fields.items()
        if kind is not None
    }
    return type(Event)(
        "BookLent",
        (Event,),
        {"__module__": "shop.events", "__annotations__": annotations, **namespace},
        name="Book Lent",
    )


def lines(*classes, plan=PLAN):
    return [line.removeprefix("shop.events.BookLent: ") for line in drift(plan, classes)]


def test_a_class_that_is_as_the_plan_agrees():
    assert lines(lent()) == []


DRIFT = {
    "missing": (
        {"price": None},
        "price: is in the plan (number), and not in the class: add the field",
    ),
    "missing, required": (
        {"isbn": None},
        "isbn: is in the plan (string, required), and not in the class: add the field",
    ),
    "not planned": (
        {"shelf": (str | UnsetType, UNSET)},
        "shelf: is not in the plan: remove the field, or add it to the plan",
    ),
    "optional": (
        {"isbn": (Annotated[str, Meta(pattern="^97")] | UnsetType, UNSET)},
        "isbn: is required by the plan: give the field no default",
    ),
    "type": ({"price": str | UnsetType}, "price: is number in the plan, and string in the class"),
    "nullable": (
        {"price": float | UnsetType | None},
        "price: is number in the plan, and number or null in the class",
    ),
    "any": ({"price": Any}, "price: is number in the plan, and any in the class"),
    "items": (
        {"copies": list[int] | UnsetType},
        "copies[]: is string in the plan, and integer in the class",
    ),
    "choices": (
        {"kind": Literal["folio", "octavo"] | UnsetType},
        "kind: is one of 'folio', 'quarto' in the plan: use Literal, or an enum",
    ),
    "no choices": (
        {"kind": str | UnsetType},
        "kind: is one of 'folio', 'quarto' in the plan: use Literal, or an enum",
    ),
    "pattern": (
        {"isbn": Annotated[str, Meta(pattern="^98")]},
        "isbn: has pattern ^97 in the plan, and ^98 in the class",
    ),
    "bound": (
        {"days": int | UnsetType | None},
        "days: has minimum 1 in the plan, and nothing in the class",
    ),
    "wider bound": (
        {"days": Annotated[int, Meta(ge=0)] | UnsetType | None},
        "days: has minimum 1 in the plan, and 0 in the class",
    ),
    "spelling": (
        {"isbn": (Annotated[str, Meta(pattern="^97")], field(name="ISBN"))},
        ["ISBN: is not in the plan", "isbn: is in the plan"],
    ),
}


@pytest.mark.parametrize("kind", DRIFT)
def test_each_kind_of_drift_has_its_line(kind):
    changed, said = DRIFT[kind]
    found = lines(lent(**changed))
    expected = [said] if isinstance(said, str) else said
    assert len(found) == len(expected)
    for line, text in zip(found, expected, strict=True):
        assert line.startswith(f"properties.{text}")


def test_drift_within_objects_has_its_path():
    class Named(Properties):
        name: int

    assert lines(lent(reader=Named)) == [
        "properties.reader.name: is string in the plan, and integer in the class"
    ]


STRICTER = {
    "not null": {"days": Annotated[int, Meta(ge=1)] | UnsetType},
    "whole": {"price": int | UnsetType},
    "decimal": {"price": Decimal | UnsetType},
    "longer": {"copies": Annotated[list[str], Meta(min_length=1)] | UnsetType},
    "fewer": {"kind": Literal["folio"] | UnsetType},
    "narrower": {"days": Annotated[int, Meta(ge=2)] | UnsetType | None},
    "a format": {"copies": list[UUID] | UnsetType},
}


@pytest.mark.parametrize("kind", STRICTER)
def test_a_class_may_be_stricter(kind):
    assert lines(lent(**STRICTER[kind])) == []


def test_events_without_class_and_classes_without_event_have_theirs():
    class Lost(Event, name="Book Lost"):
        pass

    class Base(Event):
        pass

    assert lines(Base) == [
        'track "Book Lent": no class has it: generate the classes again, or add one'
    ]
    (line,) = lines(lent(), Lost)
    assert line.endswith(
        "Lost: the plan has no event 'Book Lost': rename it, or add it to the plan"
    )


def test_versions_have_classes_of_their_own():
    simple = {"type": "object", "properties": {"isbn": {"type": "string"}}}
    plan = parse_plan(
        {"rules": [entry(simple), entry({**simple, "required": ["isbn"]}, version=2)]}
    )

    class First(Event, name="Book Lent"):
        isbn: str | UnsetType = UNSET

    class Second(Event, name="Book Lent", version=2):
        isbn: str

    class Third(Event, name="Book Lent", version=3):
        isbn: str

    assert lines(First, Second, plan=plan) == []
    (line,) = lines(First, plan=plan)
    assert line.startswith('track "Book Lent" version 2: no class has it')
    (line,) = lines(First, Second, Third, plan=plan)
    assert line.endswith("Third: the plan has no version 3 of 'Book Lent': it has 1, 2")


def test_traits_are_compared_by_their_names():
    plan = parse_plan(
        {"rules": [entry({"properties": {"age": {"type": "integer"}}}, "", "IDENTIFY")]}
    )

    class UserTraits(Traits):
        age: str | UnsetType = UNSET

    class OtherTraits(Traits):
        age: str

    (line,) = lines(UserTraits, OtherTraits, plan=plan)
    assert line.endswith("UserTraits: traits.age: is integer in the plan, and string in the class")


def test_the_classes_of_a_module_are_its_events_and_traits():
    module = SimpleNamespace(Event=Event, Traits=Traits, Reader=Reader, Lent=lent(), number=5)
    assert [cls.__name__ for cls in classes_of(module)] == ["BookLent"]


def changed(change, part=None):
    schema = copy.deepcopy(LENT)
    change(schema if part is None else schema["properties"][part])
    return parse_plan({"rules": [entry(schema)]})


CHANGES = {
    "added": (
        lambda s: s["properties"].update(shelf={"type": "integer"}),
        "properties.shelf: added (integer)",
    ),
    "removed": (lambda s: s["properties"].pop("price"), "properties.price: removed (number)"),
    "required": (lambda s: s["required"].append("price"), "properties.price: is required now"),
    "optional": (lambda s: s["required"].remove("isbn"), "properties.isbn: is optional now"),
    "closed": (
        lambda s: s.update(additionalProperties=False),
        "properties: may have no other properties now",
    ),
    "types": (
        lambda s: s["properties"]["price"].update(type=["string", "null"]),
        "properties.price: was number, is string or null",
    ),
    "bound": (
        lambda s: s["properties"]["days"].update(minimum=2),
        "properties.days: minimum was 1, is 2",
    ),
    "pattern": (
        lambda s: s["properties"]["isbn"].pop("pattern"),
        "properties.isbn: pattern was ^97, is not given",
    ),
    "choices": (
        lambda s: s["properties"]["kind"].update(enum=["folio"]),
        "properties.kind: was one of 'folio', 'quarto', is one of 'folio'",
    ),
    "within": (
        lambda s: s["properties"]["reader"]["properties"].update(age={}),
        "properties.reader.age: added (any)",
    ),
    "items": (
        lambda s: s["properties"]["copies"].update(items={"type": "integer"}),
        "properties.copies[]: was string, is integer",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_change_of_a_plan_has_its_line(kind):
    change, said = CHANGES[kind]
    assert list(diff(PLAN, changed(change))) == [f'~ track "Book Lent": {said}']
    assert len(list(diff(changed(change), PLAN))) == 1


def test_rules_are_added_and_removed():
    empty = parse_plan({"rules": []})
    assert list(diff(empty, PLAN)) == ['+ track "Book Lent"']
    assert list(diff(PLAN, empty)) == ['- track "Book Lent"']
    assert list(diff(PLAN, PLAN)) == []


def test_how_a_schema_is_written_makes_no_difference():
    def write(schema):
        schema["properties"]["days"] = {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/days"}]}
        schema["properties"]["isbn"]["description"] = "The book."
        schema["definitions"] = {"days": {"type": "integer", "minimum": 1.0}}
        schema["required"].reverse()

    assert list(diff(PLAN, changed(write))) == []


def test_a_reference_to_what_is_not_there_is_an_error():
    schema = {"properties": {"a": {"$ref": "#/definitions/a"}}}
    with pytest.raises(ConfigurationError, match="refers to #/definitions/a, which is not in it"):
        outline(parse_plan({"rules": [entry(schema)]}))


class Tree(Properties):
    left: Tree | None = None
    right: Tree | None = None
    name: int | UnsetType = UNSET


def test_what_refers_to_itself_is_compared_once():
    tree = {"$ref": "#/definitions/tree"}
    nodes = {"left": tree, "right": tree, "name": {"type": "string"}}
    schema = {"properties": {"tree": tree}, "definitions": {"tree": {"properties": nodes}}}
    plan = parse_plan({"rules": [entry(schema)]})

    class Planted(Event, name="Book Lent"):
        tree: Tree | UnsetType = UNSET

    (line,) = lines(Planted, plan=plan)
    assert line.endswith("properties.tree.name: is string in the plan, and integer in the class")
    other = copy.deepcopy(schema)
    other["definitions"]["tree"]["properties"]["name"] = {"type": "integer"}
    (line,) = diff(plan, parse_plan({"rules": [entry(other)]}))
    assert line.endswith("properties.tree.name: was string, is integer")


#: Schemas of which a class can say all, some, or nothing; no class differs from its own schema.
ODD = [
    *(
        {"type": "null"},
        {"const": None},
        {"enum": [None, "a"]},
        {"const": 5},
        {"enum": [1.5, True]},
    ),
    {"type": ["string", "integer"], "pattern": "^F", "minimum": 1},
    {"type": ["integer", "null"], "enum": [2, 4]},
    {
        "type": ["object", "string", "null"],
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
    },
    {"type": ["object", "array"], "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"type": "string", "pattern": "^F"}, {"enum": ["a"]}, {"type": "null"}]},
    {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "string"}}]},
    {"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object"}]},
    {"type": "string", "format": "date-time", "minLength": 3},
    {"type": ["string", "null"], "format": "date-time", "description": 'A "time".'},
    {"type": "array", "items": {"type": "array", "items": {"properties": {"b": {"type": "null"}}}}},
    {"type": "string", "description": 'generated_x\ndocstring_0 """ \\'},
]
ODD_NAMES = [
    *(
        "None",
        "class",
        "list",
        "field",
        "datetime",
        "Any",
        "Literal",
        "Event",
        "Meta",
        "str",
        "self",
    ),
    *("name", "$ref", "__x__", "_y", "1", "", "日本", "a.b", "{x}", "docstring_0", "generated_a"),
]


def test_whatever_a_plan_says_its_classes_can_be_made_and_agree():
    properties = dict(zip(ODD_NAMES, [*ODD, *ODD], strict=False))
    no_fields = {'a"b': {}, "a\\b": {}, "a\nb": {"type": "string"}}
    schema = {
        "type": "object",
        "properties": {**properties, **no_fields},
        "required": ODD_NAMES[:9],
    }
    names = ["Event", "None", "!", "日本", 'quote"d', "back\\s", "new\nline"]
    plan = parse_plan({"name": 'A "plan"\\', "rules": [entry(schema, name) for name in names]})
    module = ModuleType("odd_events")
    sys.modules["odd_events"] = module  # where the names of annotations are looked up
    try:
        exec(generate(plan, "odd_events.py"), vars(module))  # noqa: S102 - what is to be tested
        classes = classes_of(module)
        assert sorted(cls.__segment_name__ for cls in classes) == sorted(names)
        assert lines(*classes, plan=plan) == []
    finally:
        del sys.modules["odd_events"]


def test_names_become_identifiers():
    names = ["Order Completed", "order_completed", "3D View", "None", "!", "HTTPError", "été"]
    assert " ".join(map(class_name, names)) == (
        "OrderCompleted OrderCompleted Event3DView EventNone Event HTTPError T"
    )
    fields = ["Order ID", "order_id", "orderId", "class", "list", "0 a", "", "HTTPError"]
    assert field_names(fields) == {
        "order_id": "order_id",
        "Order ID": "order_id_2",
        "orderId": "order_id_3",
        "class": "class_",
        "list": "list_",
        "0 a": "property_0_a",
        "": "property",
        "HTTPError": "http_error",
    }
