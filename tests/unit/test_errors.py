"""Errors: their texts, their hints, and that they survive a pickle."""

from __future__ import annotations

import pickle

import pytest

import celery_segment
from celery_segment import errors
from celery_segment.errors import (
    BufferFull,
    ConfigurationError,
    MessageTooLarge,
    SegmentError,
    ValidationError,
    WriteKeyMissing,
)


def test_the_text_ends_with_the_hint():
    assert str(BufferFull("there is no room", hint="make some")) == "there is no room: make some"
    assert str(ConfigurationError("x is wrong")) == "x is wrong"
    assert ConfigurationError("x is wrong").hint == ""


@pytest.mark.parametrize(
    "error",
    [
        SegmentError("problem", hint="hint"),
        WriteKeyMissing("problem", hint="hint"),
        ValidationError("properties.a", "is wrong"),
        MessageTooLarge(40_000, 32_768, "properties"),
    ],
)
def test_they_are_the_same_behind_a_pickle(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_door_and_the_tree_have_each_of_them():
    kinds = {name: getattr(errors, name) for name in errors.__all__}
    assert all(issubclass(kind, SegmentError) for kind in kinds.values())
    assert kinds.items() <= vars(celery_segment).items()
    drawn = {word for word in errors.__doc__.split() if word in kinds}
    assert drawn == set(kinds)
