"""The ids of imported messages are made of their lines."""

from __future__ import annotations

from celery_segment.importing.ids import Ids
from celery_segment.messages.fields import MAX_MESSAGE_ID
from records import line, ndjson, read


def ids_of(*given_lines, scope=("default", "")):
    made = Ids(*scope)
    return [made.next(each) for each in given_lines]


def test_the_same_line_has_the_same_id_in_any_file():
    (a, b), (c, d) = ids_of(b"a", b"b"), ids_of(b"b", b"a")
    assert (a, b) == (d, c)
    assert a != b
    assert ids_of(b"a") != ids_of(b"a", scope=("marketing", ""))
    assert all(len(each) <= MAX_MESSAGE_ID for each in (a, b))


def test_ids_stay_what_they_are():
    """What one release imported is deduplicated when the next imports it again."""
    assert ids_of(b"a", b"a") == [
        "import-f6b027959590344b81c4dc9c3d964243",
        "import-f6b027959590344b81c4dc9c3d964243-2",
    ]


def test_equal_lines_of_one_file_stay_several():
    first, second, other, third = ids_of(b"a", b"a", b"b", b"a")
    assert [second, third] == [f"{first}-2", f"{first}-3"]
    assert other != first
    many = ids_of(*[b"a"] * 1_000, *(b"%d" % n for n in range(100_000)))
    assert len(set(many)) == 101_000


def test_a_line_has_the_same_id_however_it_ends():
    plain, windows = (
        [m["messageId"] for m in read(ndjson(end.join([line(), line(userId="v")])))[0]]
        for end in (b"\n", b"\r\n")
    )
    assert plain == windows
