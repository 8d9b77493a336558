"""Arguments become the fields of a message: which are required, and of which types."""

from __future__ import annotations

import decimal
import enum
import inspect
import pickle
import re
import uuid
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from building import (
    KINDS,
    LEAST,
    LIBRARY,
    ORDER,
    UTC,
    UUID4,
    Color,
    Loud,
    Plain,
    build,
    full,
    refusal,
    track,
    wire,
)
from celery_segment import SegmentError, ValidationError
from celery_segment.calls.api import CALLS
from celery_segment.messages import build_message


class Level(enum.IntEnum):
    HIGH = 3


class Indexed:
    def __index__(self):
        return 5

    def __repr__(self):
        return "Indexed()"


class Louder(int):
    def __str__(self):
        return "not what it holds"


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("name", CALLS)
def test_every_field_reaches_the_wire(name):
    given, expected = full(name)
    assert wire(build_message(KINDS[name], **given)) == expected
    source, message = CALLS[name].build(**given, source="marketing")
    assert (source, wire(message)) == ("marketing", expected)


@pytest.mark.parametrize("name", CALLS)
def test_the_order_of_the_arguments_is_that_of_segments_own_library(name):
    parameters = inspect.signature(CALLS[name].build).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ORDER[name].split()
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == ["source"]
    given, expected = full(name)
    assert wire(CALLS[name].build(*[given[p] for p in positional])[1]) == expected


@pytest.mark.parametrize("name", CALLS)
def test_absent_fields_are_left_out(name):
    source, message = CALLS[name].build(**LEAST[name])
    sent = wire(message)
    minted, stamped = sent.pop("messageId"), sent.pop("timestamp")
    assert uuid.UUID(minted).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamped)
    names = {"user_id": "userId", "group_id": "groupId", "previous_id": "previousId"}
    own = {names.get(k, k): v for k, v in LEAST[name].items()}
    assert sent == {"type": name, **own, "context": {"library": LIBRARY}}
    assert source == "default"


def test_empty_objects_are_kept():
    sent = wire(track(properties={}, integrations={}, context={}))
    assert sent["properties"] == sent["integrations"] == {}
    assert sent["context"] == {"library": LIBRARY}


# ---------------------------------------------------------------- what must be given


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("track", "event"),
        ("group", "group_id"),
        ("alias", "previous_id"),
        ("alias", "user_id"),
    ],
)
@pytest.mark.parametrize("nothing", [None, "", Plain.NOTHING.value, Loud("")])
def test_a_required_field_that_is_missing_or_empty_is_named(name, missing, nothing):
    error = refusal(name, **{missing: nothing})
    assert error.field == missing
    assert str(error) == f"{missing}: is required by {name}"


@pytest.mark.parametrize("name", ["identify", "track", "page", "screen", "group"])
@pytest.mark.parametrize("nothing", [{}, {"user_id": ""}, {"user_id": None, "anonymous_id": ""}])
def test_an_identity_is_required(name, nothing):
    least = {k: v for k, v in LEAST[name].items() if k != "user_id"}
    with pytest.raises(ValidationError, match="give user_id or anonymous_id") as caught:
        build(name, **least, **nothing)
    assert caught.value.field == "user_id"


@pytest.mark.parametrize("name", ["identify", "track", "page", "screen", "group"])
def test_an_anonymous_identity_is_enough(name):
    least = {k: v for k, v in LEAST[name].items() if k != "user_id"}
    sent = wire(build(name, **least, anonymous_id="a"))
    assert sent["anonymousId"] == "a"
    assert "userId" not in sent


# ---------------------------------------------------------------- types


IDS = [("identify", "user_id"), ("identify", "anonymous_id"), ("group", "group_id")]
IDS += [("alias", "previous_id"), ("alias", "user_id")]


@pytest.mark.parametrize(("name", "field"), IDS)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("019mr8mf4r", "019mr8mf4r"),
        ("Zoë 🦓", "Zoë 🦓"),
        (Loud("quiet"), "quiet"),
        (np.str_("np"), "np"),
        (Color.RED, "red"),
        (Plain.TEXT, "t"),
        (Plain.NUMBER, "7"),
        (0, "0"),
        (-5, "-5"),
        (10**30, "1" + "0" * 30),
        (3.0, "3"),
        (-0.0, "0"),
        (Decimal(3), "3"),
        (Decimal("3.0"), "3"),
        (Decimal("1E+30"), "1" + "0" * 30),
        (UUID4, str(UUID4)),
        (2.0**53 - 1, "9007199254740991"),
        (np.int64(-5), "-5"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.float64(5.0), "5"),
        (np.float32(5.0), "5"),
        (np.array(5), "5"),
        (pd.Series([5, None])[0], "5"),  # a float, since the column lacks an id
        (pd.Series([5, None], dtype="Int64")[0], "5"),
        (Level.HIGH, "3"),
        (Indexed(), "5"),
        (Louder(7), "7"),
    ],
    ids=repr,
)
def test_ids_are_text(name, field, value, text):
    camel = re.sub("_(.)", lambda m: m[1].upper(), field)
    sent = wire(build(name, **{**LEAST[name], field: value}))
    assert sent[camel] == text
    assert type(sent[camel]) is str


@pytest.mark.parametrize(("name", "field"), IDS)
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        1.5,
        float("nan"),
        float("inf"),
        Decimal("1.5"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("1E+999999"),
        10**5000,
        b"bytes",
        ["list"],
        {"a": "dict"},
        ("tuple",),
        object(),
        np.bool_(True),
        np.float64("nan"),
        np.float64(1.5),
        np.array([5]),
        np.datetime64("2026-01-01"),
        pd.NA,
        pd.NaT,
        pd.Timestamp("2026-01-01"),
        mock.MagicMock(),  # which has the index 1
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_id_is_refused(name, field, value):
    error = refusal(name, **{field: value})
    assert error.field == field
    given = value.value if isinstance(value, enum.Enum) else value
    assert str(error) == (
        f"{field}: must be a string, a whole number or a UUID, not {type(given).__name__}"
    )


@pytest.mark.parametrize("value", [2.0**53, -1e20, 1e300, np.float32(2**24), np.float16(2048)])
def test_a_float_that_may_lack_digits_is_no_id(value):
    error = refusal(user_id=value)
    assert error.field == "user_id"
    assert "is too large to have all digits: pass it as a string" in str(error)


@pytest.mark.parametrize("trap", [decimal.FloatOperation, decimal.Inexact])
def test_decimals_are_ids_whatever_the_context_of_the_caller(trap):
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[trap] = True
        assert wire(track(user_id=Decimal("123456789.0")))["userId"] == "123456789"


TEXTS = [("track", "event"), ("page", "name"), ("page", "category"), ("screen", "name")]
TEXTS += [("screen", "category")]


@pytest.mark.parametrize(("name", "field"), TEXTS)
def test_texts(name, field):
    assert wire(build(name, **{**LEAST[name], field: Color.RED}))[field] == "red"
    assert wire(build(name, **{**LEAST[name], field: Loud("quiet")}))[field] == "quiet"
    for value in (5, True, b"x", ["x"], {}, 1.5, UUID4, Plain.NUMBER):
        error = refusal(name, **{field: value})
        assert error.field == field
        given = value.value if isinstance(value, enum.Enum) else value
        assert str(error) == f"{field}: must be a string, not {type(given).__name__}"


OBJECTS = [(name, "context") for name in CALLS] + [(name, "integrations") for name in CALLS]
OBJECTS += [("identify", "traits"), ("group", "traits"), ("track", "properties")]
OBJECTS += [("page", "properties"), ("screen", "properties")]


@pytest.mark.parametrize(("name", "field"), OBJECTS)
@pytest.mark.parametrize("value", ["", "text", 0, 5, False, [], [1], (), b"", UUID4])
def test_what_is_no_object_is_refused(name, field, value):
    error = refusal(name, **{field: value})
    assert error.field == field
    assert str(error) == f"{field}: must be a dict, not {type(value).__name__}"


@pytest.mark.parametrize(("name", "field"), OBJECTS)
def test_any_mapping_is_an_object(name, field):
    sent = wire(build(name, **{**LEAST[name], field: MappingProxyType({"a": 1})}))
    assert sent[field]["a"] == 1


@pytest.mark.parametrize("field", ["user_id", "event", "message_id"])
def test_half_a_surrogate_pair_is_refused_by_field(field):
    error = refusal(**{field: "a\ud800"})
    assert error.field == field
    assert "surrogate" in str(error)


def test_a_refusal_is_a_value_error_that_survives_pickling():
    error = refusal(user_id=True)
    assert isinstance(error, ValueError)
    assert isinstance(error, SegmentError)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.field, again.problem, str(again)) == (error.field, error.problem, str(error))
