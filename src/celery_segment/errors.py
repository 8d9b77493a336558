"""Every error that celery-segment raises.

    SegmentError
    ├── ConfigurationError      a segment_* setting is unknown, missing or wrong
    │   └── WriteKeyMissing     celery_segment.analytics.Client() got neither key nor source
    ├── ValidationError         a call's argument is refused; nothing was stored
    │   └── MessageTooLarge     the encoded message is above 32,768 bytes
    ├── SegmentBufferError      the buffer did not take, or give, a message
    │   ├── BufferUnavailable   Redis is out of reach, loading, or read-only
    │   └── BufferFull          Redis is above its maxmemory
    ├── DeliveryFailed          a message was given up, as its receipt and link_error tell
    ├── ImportRefused           an import cannot begin as it was asked for
    └── ImportUnfinished        an import ended early; it can be resumed

Each message says what is wrong, where, and the mend. None carries a write key,
a password or a payload.
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
    "SegmentBufferError",
    "SegmentError",
    "ValidationError",
    "WriteKeyMissing",
]


class SegmentError(Exception):
    """The base of every error of this library."""


class ConfigurationError(SegmentError):
    """A ``segment_*`` setting is unknown, missing or wrong."""


class WriteKeyMissing(ConfigurationError, AssertionError):  # noqa: N818 - a state
    """``celery_segment.analytics.Client`` was given neither a write key nor a source.

    An AssertionError as well, which is what Segment's own client raises.
    """


class ValidationError(SegmentError, ValueError):
    """A call's argument is refused. Nothing was stored.

    Attributes:
        field: The argument's name, or the path of the offending value inside
            it, such as ``properties.items[2].price``.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class MessageTooLarge(ValidationError):  # noqa: N818 - the field's name for it
    """The message is above Segment's limit of 32,768 bytes of encoded JSON.

    Attributes:
        size: The message's size, in bytes.
    """

    def __init__(self, size: int, limit: int, largest: str) -> None:
        super().__init__(
            largest,
            f"the message has {size:,} bytes as JSON and Segment takes {limit:,};"
            f" {largest} is its largest field: send less of it",
        )
        self.size = size
        self.limit = limit
        self.largest = largest

    def __reduce__(self) -> tuple[type[MessageTooLarge], tuple[int, int, str]]:
        return type(self), (self.size, self.limit, self.largest)


class SegmentBufferError(SegmentError):
    """The buffer in Redis refused or failed an operation."""


class BufferUnavailable(SegmentBufferError):  # noqa: N818 - a state, as in http's 503
    """Redis is out of reach, still loading, or a read-only replica."""


class BufferFull(SegmentBufferError):  # noqa: N818 - a state, as in queue.Full
    """There is no room: Redis is above its maxmemory."""


class DeliveryFailed(SegmentError):  # noqa: N818 - a state, as the batch's
    """A message was given up: it is a dead letter, kept until replayed or purged."""


class ImportRefused(SegmentError):  # noqa: N818 - a refusal, not a fault
    """An import cannot begin, or be resumed, as it was asked for. Nothing was stored."""


class ImportUnfinished(SegmentError):  # noqa: N818 - a state
    """An import ended before its input did. Resumed, it goes on where it was."""
