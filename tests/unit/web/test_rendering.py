"""How templates write numbers, times and foreign texts."""

from __future__ import annotations

import time

import pytest

from celery_segment.web.rendering import ENVIRONMENT, compact, safe_json


def written(template, value):
    return ENVIRONMENT.from_string(template).render(value=value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Order Completed", "Order Completed"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\"'&", "&#34;&#39;&amp;"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("\x1b[31mred\x00\x07\x9b", "\ufffd[31mred\ufffd\ufffd\ufffd"),
        ("\u202eevil\u202c\u2066\u2069\u200f\u200e\ufeff", "\ufffdevil" + "\ufffd" * 6),
        ("שלום", "שלום"),
        ("\ud800", "\ufffd"),
        (7, "7"),
    ],
)
def test_a_foreign_text_is_one_line_that_turns_nothing_around(text, shown):
    assert written("{{ value | text }}", text) == f"<bdi>{shown}</bdi>"


def test_whatever_no_filter_marks_is_escaped():
    assert written('<a title="{{ value }}">', '"><b>') == '<a title="&#34;&gt;&lt;b&gt;">'


def test_json_is_indented_and_escapes_what_is_not_shown_as_itself():
    data = '{"a":"\u202e<b>\x7f\u2028","b":[1.10,"\U000e0001"]}'.encode()
    assert written("{{ value | json }}", data) == (
        "{\n  &#34;a&#34;: &#34;\\u202e&lt;b&gt;\\u007f\\u2028&#34;,\n"
        "  &#34;b&#34;: [\n    1.10,\n    &#34;\\udb40\\udc01&#34;\n  ]\n}"
    )


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"", b"\x1b[2J"])
def test_what_is_no_json_is_shown_all_the_same(data):
    assert "\x1b" not in safe_json(data)


@pytest.mark.parametrize(
    ("filtered", "value", "text"),
    [
        ("number", 1_234_567, "1,234,567"),
        ("size", 0, "0 B"),
        ("size", 999, "999 B"),
        ("size", 1_300, "1.3 kB"),
        ("size", 20_500_000, "20.5 MB"),
        ("size", 5_200_000_000_000, "5,200.0 GB"),
        ("rate", 0.0, "0/s"),
        ("rate", 0.01, "&lt;0.1/s"),
        ("rate", 0.26, "0.3/s"),
        ("rate", 1234.5, "1,234/s"),
        ("duration", 200, "3 min 20 s"),
    ],
)
def test_numbers(filtered, value, text):
    assert written(f"{{{{ value | {filtered} }}}}", value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0841, "84 ms"), (1.24, "1.2 s"), (9.99, "10 s"), (200, "3 min 20 s")],
)
def test_durations_that_may_be_short(seconds, text):
    assert compact(seconds) == text


def test_times():
    at = 1_764_166_061.25
    stamp = "2025-11-26T14:07:41.250000Z"
    text = f'<time datetime="{stamp}">2025-11-26 14:07:41 UTC</time>'
    assert written("{{ value | time }}", at) == text
    assert written("{{ value | short }}", at) == f'<time datetime="{stamp}" data-short>14:07</time>'
    clock = f'<time datetime="{stamp}" data-clock>14:07:41.250</time>'
    assert written("{{ value | clock }}", at) == clock
    assert written("{{ value | ago }}", time.time() - 200).endswith(
        "data-ago>3 min 20 s ago</time>"
    )
