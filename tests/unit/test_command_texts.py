"""Durations, numbers and lines as the commands print them."""

from __future__ import annotations

import pytest

from celery_segment.text import brief_duration, counted, duration, one_line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400 * 3 + 7_200, "3 d 2 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_words():
    assert counted(1, "message") == "1 message"
    assert counted(0, "message") == "0 messages"
    assert counted(1_234, "message") == "1,234 messages"
    assert one_line(" a\n b\x07\x1b[2J\u202e") == "a b" + "\N{REPLACEMENT CHARACTER}" + (
        "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0851, "85 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.25, "1.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (200, "3 min 20 s"),
    ],
)
def test_a_brief_duration(seconds, text):
    assert brief_duration(seconds) == text
