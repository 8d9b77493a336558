"""What an error answer of Redis means: a table from its code to the error to raise."""

from __future__ import annotations

from typing import NamedTuple

from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError

__all__ = ["translated"]

#: Characters of an answer's text that are kept.
_TEXT = 200


class _Meaning(NamedTuple):
    """What answers with one of these codes mean.

    ``problem`` may hold ``{text}``, the answer's own words.
    """

    codes: tuple[str, ...]
    error: type[SegmentBufferError]
    problem: str
    hint: str = ""


#: The first that matches counts.
_TABLE = (
    _Meaning(
        ("OOM command not allowed",),
        BufferFull,
        "is full",
        "raise its maxmemory, or let the workers drain it",
    ),
    _Meaning(
        ("READONLY",),
        BufferUnavailable,
        "is a read-only replica",
        "point segment_redis_url at the primary",
    ),
    _Meaning(
        # The last: before it knows the user, Redis accepts no command of more than ten arguments.
        ("Authentication", "NOPERM", "NOAUTH", "WRONGPASS", "unauthenticated multibulk"),
        BufferUnavailable,
        "refused the user ({text})",
        "check the user, password and ACL behind segment_redis_url",
    ),
    _Meaning(
        ("BusyLoading", "LOADING", "MASTERDOWN", "MISCONF", "BUSY", "NOREPLICAS"),
        BufferUnavailable,
        "does not serve at present: {text}",
    ),
)
_ANY_OTHER = _Meaning((), SegmentBufferError, "refused a command: {text}")


def translated(answer: Exception, address: str) -> SegmentBufferError:
    """Return the error that an answer of the Redis at ``address`` means.

    Args:
        answer: hiredis' ReplyError, or what redis-py raised while it connected.
        address: The server's address, for the error's text.
    """
    text = str(answer)[:_TEXT]
    # A script's error has the code anywhere in its text; redis-py puts it into the class.
    said = f"{type(answer).__name__} {text}"
    found = (m for m in _TABLE if any(code in said for code in m.codes))
    meaning = next(found, _ANY_OTHER)
    problem = f"Redis at {address} {meaning.problem.format(text=text)}"
    return meaning.error(problem, hint=meaning.hint)
