"""What has no JSON form is refused with its path."""

from __future__ import annotations

import collections
import enum
import fractions
from datetime import tzinfo
from types import MappingProxyType, SimpleNamespace
from unittest import mock

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
from django.utils.functional import lazystr

from values import NOON, ODD, Data, Int, Kind, Model, Struct, Text, refusal


def generator():
    yield 1


class Permissive:
    """Has every attribute one asks for."""

    def __getattr__(self, name):
        return name


class Failing(collections.UserDict):
    def items(self):
        raise RuntimeError("secret")


class FailingModel(pydantic.BaseModel):
    def model_dump(self, **_):
        raise RuntimeError("secret")


class Nowhere(tzinfo):
    def utcoffset(self, _):
        raise RuntimeError("secret")


def released():
    view = memoryview(b"abc")
    view.release()
    return view


ROWS = np.array([(1, np.datetime64("2026-11-23", "ns"))], dtype=[("a", "i4"), ("b", "M8[ns]")])

REFUSED = [
    (object(), "object"),
    (generator(), "generator"),
    ((x for x in ()), "generator"),
    (map(str, []), "map"),
    (iter([]), "list_iterator"),
    (range(3), "range"),
    ({}.values(), "dict_values"),
    (len, "builtin_function_or_method"),
    (generator, "function"),
    (1j, "complex"),
    (np.complex128(1j), "complex"),
    (np.longdouble("1.1"), "longdouble"),
    (np.timedelta64(3, "ns"), "timedelta64"),
    (np.timedelta64(3, "M"), "timedelta64"),
    (np.datetime64("-5000-01-01"), "datetime64"),
    (ROWS, "ndarray"),
    (ROWS[0], "void"),
    (fractions.Fraction(1, 3), "Fraction"),
    (ValueError("x"), "ValueError"),
    (SimpleNamespace(a=1), "SimpleNamespace"),
    (..., "ellipsis"),
    (int, "type"),
    (Data, "type"),
    (Kind, type(Kind).__name__),
    (Model, "ModelMetaclass"),
    (Struct, type(Struct).__name__),
    (pd.Series([1]), "Series"),
    (pd.DataFrame({"a": [1]}), "DataFrame"),
    (pd.Period("2026-11"), "Period"),
    (pydantic.fields.FieldInfo(default=1), "FieldInfo"),
    (mock.MagicMock(), "MagicMock"),
    (Permissive(), "Permissive"),
    (Failing(a=1), "Failing"),
    (FailingModel(), "FailingModel"),
    (10**5000, "int"),
    (Int(10**5000), "int"),
    (NOON.replace(tzinfo=Nowhere()), "datetime"),
    (released(), "memoryview"),
    (msgspec.Raw(b"[1"), "Raw"),
]


@pytest.mark.parametrize(("value", "name"), REFUSED, ids=[name for _, name in REFUSED])
def test_what_has_no_json_form_is_refused_with_its_path(value, name):
    for properties, path in (
        ({"a": value}, "properties.a"),
        ({"a": {"b": [1, value]}}, "properties.a.b[1]"),
        ({"a": ({"b": value},)}, "properties.a[0].b"),
        ({1: {Kind.TEXT: value}}, "properties.1.text"),
        ({"a": Data(a=[value])}, "properties.a.a[0]"),
        ({"a": Struct(value)}, "properties.a.someName"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert name in str(error)
        assert "convert it or leave it out" in str(error)
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    "key",
    [
        *(None, True, False, (1, 2), frozenset(), Kind.NOTHING, Kind.PAIR, np.bool_(True)),
        *(object(), 1j, 10**5000, Data),
    ],
    ids=lambda key: type(key).__name__,
)
def test_what_is_no_key_is_refused_with_the_path_of_its_object(key):
    for properties, path in (
        ({key: 1}, "properties"),
        ({"a": [{key: 1}]}, "properties.a[0]"),
        ({"a": MappingProxyType({key: 1})}, "properties.a"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert str(error) == (
            f"{path}: a key of type {type(key).__name__} has no JSON form: use a string"
        )


class Broken(str, enum.Enum):
    HALF = "\ud800"


@pytest.mark.parametrize(
    "text",
    [
        *("\ud800", "a\udfffb", "\ud83d\ude00", Text("\ud800"), Broken.HALF),
        *(np.str_("\ud800"), lazystr("\ud800"), collections.UserString("\ud800")),
    ],
    ids=lambda text: type(text).__name__,
)
def test_half_a_surrogate_pair_is_refused(text):
    for properties, path in (
        ({"a": text}, "properties.a"),
        ({"a": ["x", {"b": text}]}, "properties.a[1].b"),
        ({"odd": ODD, "a": {"b": [text]}}, "properties.a.b[0]"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert "surrogate" in str(error)
        str(error).encode()


@pytest.mark.parametrize("key", ["\ud800", Text("\udfff"), Broken.HALF], ids=repr)
def test_half_a_surrogate_pair_in_a_key_is_refused(key):
    error = refusal({"a": {key: 1}})
    assert error.field == "properties.a (a key)"
    assert "surrogate" in str(error)
    str(error).encode()
