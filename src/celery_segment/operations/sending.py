"""Send one message by hand, and watch what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery_segment import messages
from celery_segment.buffer import Gate
from celery_segment.operations.admin import admin_of
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.producer import refuse
from celery_segment.runtime import Runtime

__all__ = ["Sending"]

#: Seconds between two looks at a message that waits.
POLL = 0.05


class Sending:
    """One message of a source, from the call to its delivery.

    It is stored in Redis or refused with an error, whatever the settings say of a buffer that is
    full or unreachable.

    Args:
        runtime: The application's runtime.
        source: The source's name.

    Attributes:
        source: The source's name.
        message_id: The message's id, once it is built.
    """

    def __init__(self, runtime: Runtime, source: str) -> None:
        self.source = source
        self.message_id = ""
        self._runtime = runtime
        self._admins = [buffer.admin for buffer in runtime.shards(source)]
        self._admin = admin_of(runtime, source)
        self._began = time.monotonic()

    def build(self, kind: str, arguments: Mapping[str, Any]) -> bytes | None:
        """Return a message's bytes as a call stores them; None if ``segment_before_send`` drops it.

        Raises:
            ValidationError: An argument is invalid.
        """
        message = messages.build_message(messages.TYPES[kind], **arguments)
        self.message_id = message.message_id
        return self._runtime.producer(self.source).prepare(message, refuse)

    def store(self, data: bytes) -> None:
        """Store the message.

        Raises:
            SegmentBufferError: It is not stored, or Redis did not say whether it is.
        """
        for store, share in self._runtime.shares(self.source, [data]):
            store.append_many(share)

    def store_and_watch(self, data: bytes) -> None:
        """Store the message, and note what tells it from others, to wait for it."""
        self._buried = self._admin.last_buried()
        self._attempts = self._admin.snapshot().attempts
        self._before = self._marks()
        self._began = time.monotonic()
        self.store(data)
        self._after = self._marks()

    def wait(self, timeout: float) -> bool:
        """Have the workers deliver the message, and wait for that.

        Args:
            timeout: Seconds to wait: less where the source is paused, or its write key refused.

        Returns:
            Whether the message is delivered or given up.
        """
        deadline = self._began + timeout
        self._runtime.wake(self.source)
        while not self.is_settled():
            gate = self.gate()
            if time.monotonic() >= deadline or gate.state == "paused" or gate.refused:
                return self.is_settled()
            time.sleep(POLL)
        return True

    def is_settled(self) -> bool:
        """Return whether the message is delivered or given up: only what came before it waits."""
        # In this order, so that what is settled in between does not count for the message.
        pairs = zip(self._admins, self._before, self._after, strict=True)
        return not any(
            admin.remaining(after) - admin.remaining(before) > 0 for admin, before, after in pairs
        )

    def gate(self) -> Gate:
        """Return whether the source's batches may be delivered now."""
        return self._admin.snapshot().gate

    def why_dead(self) -> str | None:
        """Return why the message was given up; None if it was not."""
        letters = DeadLetters(self._runtime, self.source)
        wanted = f'"{self.message_id}"'.encode()
        for letter in letters.select(since=self._buried):
            if any(wanted in message for message in letters.raw(letter.id)):
                return letter.reason
        return None

    def answers(self) -> list[str]:
        """Return the outcomes of the source's requests since the message was stored."""
        attempts = self._admin.snapshot().attempts
        return [each for each, count in attempts.items() if count > self._attempts.get(each, 0)]

    @property
    def seconds(self) -> float:
        """The seconds since the message was stored."""
        return time.monotonic() - self._began

    def _marks(self) -> list[int]:
        return [admin.mark() for admin in self._admins]
