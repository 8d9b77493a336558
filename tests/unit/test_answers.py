"""What an error answer of Redis means."""

from __future__ import annotations

import pytest
from hiredis import ReplyError
from redis import exceptions

from celery_segment import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.buffer.answers import Elsewhere, is_elsewhere, may_have_written, translated

SCRIPT = "ERR Error running script (call to f_1): @user_script:5: {} "


@pytest.mark.parametrize("wrapped", ["{}", SCRIPT])
@pytest.mark.parametrize(
    ("answer", "error", "problem", "hint"),
    [
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            BufferFull,
            "is full",
            "raise its maxmemory",
        ),
        (
            "READONLY You can't write against a read only replica.",
            BufferUnavailable,
            "is a read-only replica",
            "point segment_redis_url at the primary",
        ),
        (
            "NOAUTH Authentication required.",
            BufferUnavailable,
            "refused the user",
            "check the user",
        ),
        ("NOPERM No permissions", BufferUnavailable, "refused the user", "check the user"),
        ("LOADING Redis is loading", BufferUnavailable, "does not serve at present", ""),
        ("MASTERDOWN Link with MASTER is down", BufferUnavailable, "does not serve", ""),
        ("CLUSTERDOWN Hash slot not served", BufferUnavailable, "does not serve", ""),
        ("TRYAGAIN Multiple keys request", BufferUnavailable, "does not serve", ""),
        ("MOVED 3999 10.0.0.1:6379", Elsewhere, "leaves the buffer", "for a cluster"),
        ("ASK 3999 10.0.0.1:6379", Elsewhere, "leaves the buffer", "for a cluster"),
        ("WRONGPASS invalid username", BufferUnavailable, "refused the user", "check the user"),
        (
            "The user executing the script can't run this command or subcommand",
            BufferUnavailable,
            "refused the user",
            "check the user",
        ),
        ("MISCONF Redis is configured to save", BufferUnavailable, "does not serve", ""),
        ("NOREPLICAS Not enough good replicas", BufferUnavailable, "does not serve", ""),
        ("WRONGTYPE Operation against a key", SegmentBufferError, "refused a command", ""),
    ],
)
def test_an_answer_has_its_error_and_hint(wrapped, answer, error, problem, hint):
    found = translated(ReplyError(wrapped.format(answer)), "h:1")
    assert type(found) is error
    assert found.problem.startswith(f"Redis at h:1 {problem}")
    assert found.hint.startswith(hint)
    assert bool(found.hint) == bool(hint)


@pytest.mark.parametrize(
    ("raised", "problem"),
    [
        (exceptions.AuthenticationError("invalid username-password pair"), "refused the user"),
        (exceptions.BusyLoadingError("loading"), "does not serve at present"),
    ],
)
def test_what_redis_py_raises_while_it_connects_is_known_by_its_class(raised, problem):
    found = translated(raised, "h:1")
    assert type(found) is BufferUnavailable
    assert found.problem.startswith(f"Redis at h:1 {problem}")


def test_a_long_text_is_cut():
    assert len(str(translated(ReplyError("ERR " + "x" * 10_000), "h:1"))) < 300


@pytest.mark.parametrize("wrapped", ["{}", SCRIPT])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("MASTERDOWN Link with MASTER is down", True),
        ("LOADING Redis is loading", True),
        ("CLUSTERDOWN The cluster is down", True),
        ("MOVED 3999 10.0.0.1:6379", True),
        ("ASK 3999 10.0.0.1:6379", True),
        ("TRYAGAIN Multiple keys request", True),
        ("NOAUTH Authentication required.", True),
        ("NOPERM No permissions", True),
        ("OOM command not allowed when used memory", False),
        ("MISCONF Redis is configured to save", True),
        ("WRONGTYPE Operation against a key", False),
        ("NOSCRIPT No matching script", False),
    ],
)
def test_what_another_node_may_answer_otherwise_is_known(wrapped, answer, expected):
    assert is_elsewhere(ReplyError(wrapped.format(answer))) is expected


def test_a_reply_that_is_no_error_is_none_of_them():
    assert not is_elsewhere(b"READONLY")


def test_only_a_permission_within_a_script_may_come_after_a_write():
    assert may_have_written(ReplyError(SCRIPT.format("NOPERM No permissions")))
    assert not may_have_written(ReplyError("NOPERM this user has no permissions to run evalsha"))
    assert not may_have_written(ReplyError(SCRIPT.format("READONLY You can't write")))


@pytest.mark.parametrize(
    "quote", ["'EVALSHA', with args beginning with: ", "`EVALSHA`, with args "]
)
def test_an_unknown_command_is_told_without_its_arguments(quote):
    answer = ReplyError(f"ERR unknown command {quote}'a1' '1' 'READONLY alice@example.com'")
    found = translated(answer, "h:1")
    assert str(found) == f"Redis at h:1 refused a command: ERR unknown command {quote[:9]}"
    assert type(found) is SegmentBufferError
    assert not is_elsewhere(answer)
