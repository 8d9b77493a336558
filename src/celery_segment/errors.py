"""Every error that celery-segment raises.

    SegmentError
    ├── ConfigurationError      a segment_* setting is unknown, missing or wrong
    │   └── WriteKeyMissing     celery_segment.analytics.Client() got neither key nor source
    ├── ValidationError         a call's argument is refused; nothing was stored
    │   ├── MessageTooLarge     the encoded message is above 32,768 bytes
    │   └── NoIdentity          neither the call nor the visitor has an id
    ├── SegmentBufferError      the buffer failed to store or to return messages
    │   ├── BufferUnavailable   Redis cannot be reached, is loading, or is read-only
    │   └── BufferFull          Redis has no room for messages, or a segment_max_… bound is reached
    ├── DeliveryFailed          a message was given up; the error of its receipt and link_error
    ├── ImportRefused           an import cannot start with these files and options
    └── ImportUnfinished        an import ended early; it can be resumed

``str(error)`` says what is wrong, where, and how to fix it; ``error.hint`` is the fix
alone. No error carries a write key, a password or a payload.
"""

from __future__ import annotations

__all__ = [
    "BufferFull",
    "BufferUnavailable",
    "ConfigurationError",
    "DeliveryFailed",
    "ImportRefused",
    "ImportUnfinished",
    "MessageTooLarge",
    "NoIdentity",
    "SegmentBufferError",
    "SegmentError",
    "ValidationError",
    "WriteKeyMissing",
]


class SegmentError(Exception):
    """The base of every error of this library.

    Attributes:
        problem: What is wrong, and where.
        hint: How to fix it; empty where the problem already says so.
    """

    def __init__(self, problem: str = "", *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}: {self.hint}" if self.hint else self.problem


class ConfigurationError(SegmentError):
    """A ``segment_*`` setting is unknown, missing or wrong."""


class WriteKeyMissing(ConfigurationError, AssertionError):  # noqa: N818 - a state
    """``celery_segment.analytics.Client`` was given neither a write key nor a source.

    Also an AssertionError, which is what Segment's own client raises.
    """


class ValidationError(SegmentError, ValueError):
    """A call's argument is refused. Nothing was stored.

    Attributes:
        field: The argument's name, or the path of the offending value inside
            it, such as ``properties.items[2].price``. A key that may be somebody's address,
            number or id is told by its place among the keys: ``properties.<key 0>.price``.
        problem: What is wrong with it, and how to fix it.
        rule: The rule of a tracking plan that it violates, such as ``minimum``; None where the
            message violates none.
    """

    def __init__(self, field: str, problem: str, rule: str | None = None) -> None:
        super().__init__(problem)
        self.field, self.rule = field, rule

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"

    def __reduce__(self) -> tuple[type[ValidationError], tuple[str, str, str | None]]:
        return type(self), (self.field, self.problem, self.rule)


class MessageTooLarge(ValidationError):  # noqa: N818 - the field's name for it
    """The message is above Segment's limit of 32,768 bytes of encoded JSON.

    Attributes:
        size: The message's size, in bytes.
        limit: Segment's limit, in bytes.
        largest: The message's largest field.
    """

    def __init__(self, size: int, limit: int, largest: str) -> None:
        super().__init__(
            largest,
            f"the message has {size:,} bytes as JSON and Segment accepts {limit:,};"
            f" {largest} is its largest field: send less of it",
        )
        self.size = size
        self.limit = limit
        self.largest = largest

    def __reduce__(self) -> tuple[type[MessageTooLarge], tuple[int, int, str]]:  # type: ignore[override]
        return type(self), (self.size, self.limit, self.largest)


class NoIdentity(ValidationError):  # noqa: N818 - a state
    """Neither the call nor, in a web request, its visitor has an id.

    A call in a web request does not raise it: that a visitor has no id is no error of the
    program. Its message is dropped, and counted.
    """


class SegmentBufferError(SegmentError):
    """The buffer in Redis refused or failed an operation.

    Attributes:
        stored: How many of a call's messages are stored nevertheless: the first ones, but with
            ``segment_ordered`` those of the shards that could be reached.
        unknown: How many of those that follow may be stored or not: Redis did not say.
    """

    stored: int = 0
    unknown: int = 0


class BufferUnavailable(SegmentBufferError):  # noqa: N818 - a state, as in http's 503
    """Redis cannot be reached, is still loading, or is a read-only replica."""


class BufferFull(SegmentBufferError):  # noqa: N818 - a state, as in queue.Full
    """There is no room: Redis uses more than segment_max_memory_share, or a bound is reached."""


class DeliveryFailed(SegmentError):  # noqa: N818 - a state, as the batch's
    """A message was given up: it is a dead letter, kept until replayed or purged."""


class ImportRefused(SegmentError):  # noqa: N818 - a refusal, not a fault
    """An import cannot start, or resume, with these files and options. Nothing was stored."""


class ImportUnfinished(SegmentError):  # noqa: N818 - a state
    """An import ended before its input did. When resumed, it continues where it stopped."""
