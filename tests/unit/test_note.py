"""The note of what is given back from a spill file."""

from __future__ import annotations

import os

import pytest

from celery_segment.producer.note import make_note, read_note, write_note

SIZE = 16_384


@pytest.fixture
def note(tmp_path):
    make_note(str(tmp_path / "note"))
    descriptor = os.open(tmp_path / "note", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_it_has_its_whole_size_from_the_start_and_keeps_it(note, tmp_path):
    path = tmp_path / "note"
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (SIZE, 0o600)
    write_note(note, "t", {"a": 1})
    make_note(str(path))
    assert path.stat().st_size == SIZE
    assert read_note(note, "t") == {"a": 1}


def test_a_new_or_a_garbled_one_says_nothing(note):
    assert read_note(note, "t") == {}
    os.pwrite(note, b'{"token": "t", "gi', 0)
    assert read_note(note, "t") == {}


def test_it_is_overwritten_whole(note):
    write_note(note, "t", {f"source {n}": n for n in range(500)})
    assert len(read_note(note, "t")) == 500
    write_note(note, "t", {"a": 7})
    assert read_note(note, "t") == {"a": 7}


def test_that_of_another_file_says_nothing_of_this_one(note):
    write_note(note, "t", {"a": 7})
    assert read_note(note, "another") == {}
