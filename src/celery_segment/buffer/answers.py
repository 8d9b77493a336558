"""What an error answer of Redis means, or none: the error to raise."""

from __future__ import annotations

from typing import Any, NamedTuple

from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.text import one_line

__all__ = [
    "Elsewhere",
    "Interrupted",
    "Resting",
    "Unproved",
    "brief",
    "is_elsewhere",
    "is_refused",
    "is_unblocked",
    "is_unknown",
    "may_have_written",
    "translated",
    "unanswered",
]

#: Characters of an answer's text that are kept.
_TEXT = 200
#: Where a server begins to quote the arguments of a command that it does not know.
_QUOTE = ", with args"


class Elsewhere(BufferUnavailable):
    """Another server of the cluster has the key, or will have it soon."""


class Interrupted(BufferUnavailable):
    """The connection broke between a command and its reply: it may have been carried out."""

    unknown = 1

    @classmethod
    def by(cls, error: OSError, address: str) -> Interrupted:
        """Return the error that stands for a connection that broke."""
        return cls(
            f"the connection to Redis at {address} broke ({brief(error)}); the operation may have"
            " been carried out"
        )


class Resting(BufferUnavailable):
    """Redis did not answer in time a moment ago, and was not asked."""

    @classmethod
    def at(cls, address: str) -> Resting:
        """Return the error of a call that did not ask the Redis at an address."""
        return cls(
            f"Redis at {address} did not answer in time a moment ago, and was not asked",
            hint="check the server; it is asked again until it is heard",
        )


class Unproved(BufferUnavailable):
    """An idle connection does not work any more; nothing was sent."""

    @classmethod
    def at(cls, address: str) -> Unproved:
        """Return the error of a call that found such a connection to an address."""
        return cls(f"a connection to Redis at {address} does not work any more")


class _Meaning(NamedTuple):
    """What answers with one of these codes mean.

    ``problem`` may hold ``{text}``, the answer's own words.
    """

    codes: tuple[str, ...]
    error: type[SegmentBufferError]
    problem: str
    hint: str = ""


#: A user who may not do this; the second is said within a script.
_PERMISSION = ("NOPERM", "The user executing the script")

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
        ("Authentication", "NOAUTH", "WRONGPASS", "unauthenticated multibulk", *_PERMISSION),
        BufferUnavailable,
        "refused the user ({text})",
        "check the user, password and ACL behind segment_redis_url",
    ),
    _Meaning(
        (" MOVED ", "-MOVED ", " ASK ", "-ASK "),
        Elsewhere,
        "leaves the buffer to another server of its cluster ({text})",
        "for a cluster, segment_redis_url is redis+cluster://HOST:PORT",
    ),
    _Meaning(
        (
            *("BusyLoading", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"),
            *("MISCONF", "BUSY", "NOREPLICAS", "max number of clients"),
        ),
        BufferUnavailable,
        "does not serve at present: {text}",
    ),
)
#: Answers that another node, or the same one over a new connection, may not give.
_ELSEWHERE = (
    *("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS"),
    *(" MOVED ", "-MOVED ", " ASK ", "-ASK "),
    *("NOAUTH", "WRONGPASS", "unauthenticated multibulk"),
    *_PERMISSION,
)
_ANY_OTHER = _Meaning((), SegmentBufferError, "refused a command: {text}")


def is_elsewhere(answer: object) -> bool:
    """Return whether an answer means "not this node, or not now", so that it is worth a new try."""
    return isinstance(answer, Exception) and _has(answer, _ELSEWHERE)


def is_refused(reply: Any) -> bool:
    """Return whether a reply says that Redis does not serve: each of many, or a script's."""
    if isinstance(reply, list):
        return all(is_elsewhere(each) for each in reply)
    return is_elsewhere(reply[0] if isinstance(reply, tuple) else reply)


def is_unknown(reply: Any) -> bool:
    """Return whether a reply says that Redis does not know the script."""
    return isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT")


def is_unblocked(reply: Any) -> bool:
    """Return whether a reply ends a wait early, as where a primary is made a replica meanwhile."""
    return isinstance(reply, Exception) and str(reply).startswith("UNBLOCKED")


def may_have_written(answer: object) -> bool:
    """Return whether a script may have written something before it was refused.

    The state of a server does not change within a script, so READONLY and the like come
    before its first write. But the user's permission is looked up for each of its commands.
    """
    return _has(answer, _PERMISSION) and "script" in str(answer)


def _has(answer: object, codes: tuple[str, ...]) -> bool:
    said = f"{type(answer).__name__} {_words(answer)}"
    return any(code in said for code in codes)


def _words(answer: object) -> str:
    """Return an answer's text without the arguments of a command, part of a message among them.

    A server to which a command is unknown, as by its rename-command, quotes 128 characters.
    """
    return one_line(str(answer).partition(_QUOTE)[0])[:_TEXT]


def translated(answer: Exception, address: str) -> SegmentBufferError:
    """Return the error that an answer of the Redis at ``address`` means.

    Args:
        answer: hiredis' ReplyError, or what redis-py raised while it connected.
        address: The server's address, for the error's text.
    """
    text = _words(answer)
    # A script's error has the code anywhere in its text; redis-py puts it into the class.
    said = f"{type(answer).__name__} {text}"
    found = (m for m in _TABLE if any(code in said for code in m.codes))
    meaning = next(found, _ANY_OTHER)
    problem = f"Redis at {address} {meaning.problem.format(text=text)}"
    return meaning.error(problem, hint=meaning.hint)


def unanswered(error: Exception, errors: Any, address: str, *, is_sent: bool) -> Exception:
    """Return the error that stands for a command without an answer.

    Args:
        error: What was raised while it was sent, or its connection was made.
        errors: redis-py's exceptions, which are loaded late.
        address: The server's address, for the error's text.
        is_sent: Whether the command may have reached the server.
    """
    if isinstance(error, errors.AuthenticationError | errors.BusyLoadingError):
        return translated(error, address)
    if isinstance(error, TimeoutError | errors.TimeoutError):
        done = "; the operation may have been carried out" if is_sent else ""
        failure = BufferUnavailable(
            f"Redis at {address} did not answer in time{done}",
            hint="check the server, or raise segment_redis_timeout",
        )
    else:
        failure = BufferUnavailable(
            f"Redis at {address} is unreachable ({brief(error)})",
            hint="check that it runs, and segment_redis_url",
        )
    failure.unknown = int(is_sent)
    return failure


def brief(error: BaseException) -> str:
    """Return an error's text, shortened; its name where it has none."""
    return one_line(str(error)).rstrip(".")[:160] or type(error).__name__
