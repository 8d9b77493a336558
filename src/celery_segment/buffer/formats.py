"""The format in which a source is stored: which one this release stores, and which it reads.

What ``keys`` says, and what the scripts make of it, is format 1. A change that the release before
does not read is a new format, whose number goes up by one. Each source notes its own in ``:state``
(none is format 1). Workers note it when they start; neither a call nor a batch costs anything, and
a process that only makes calls neither reads nor writes it.

So that processes can be upgraded in any order, a new format comes in two releases. The first one
reads it (``READS``), and stores the format before. The next one stores it (``STORES``), and reads
both. Whatever the calls of the newer release store, the workers of the older one read then. A
worker that is older still does not start once the source is noted to be newer than it reads.

Dead letters are in groups (``groups``) without a new format: nobody needs them to deliver, and a
letter without groups is one like any other. A process from before there were groups may take
letters away without counting them out; the counts are right again once the last letter is gone.
"""

from __future__ import annotations

from celery_segment.errors import ConfigurationError

__all__ = ["READS", "STORES", "check_format"]

#: The format that this release stores, and the newest that it reads: it reads the one before, too.
STORES = 1
READS = 1


def check_format(source: str, stored: int) -> None:
    """Refuse a source that a newer release has stored.

    Args:
        source: The name of the source.
        stored: The format that is noted.

    Raises:
        ConfigurationError: This release does not read it.
    """
    if stored > READS:
        raise ConfigurationError(
            f"source {source!r} is stored in format {stored}, and this release of celery-segment"
            f" reads up to format {READS}",
            hint="upgrade this process to the release of the workers that deliver the source",
        )
