"""Messages that the endpoint refuses, and the part of the ledger that they have."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery_segment.delivery.outcome import is_retryable
from chaos.settings import RETRY_FOR

#: Seconds within which a message whose requests are retried must be a dead letter: the limit,
#: and the last wait before the attempt that exceeds it.
LIFE = 2 * RETRY_FOR


@dataclass
class Poison:
    """A message that the endpoint refuses, with each request that it is in.

    Attributes:
        status: The status that such requests are answered.
        at: When it was tracked.
    """

    status: int
    at: float

    @property
    def is_retried(self) -> bool:
        """Whether it becomes a dead letter only once its retries are used up."""
        return is_retryable(self.status)


@dataclass
class Poisoned:
    """What became of them: each must be a dead letter, and nothing else may.

    Attributes:
        poison: All of them, by messageId.
        dead: The messageIds of the dead letters.
        ended: When this was drawn up.
    """

    poison: dict[str, Poison]
    dead: list[str]
    ended: float

    @classmethod
    def draw_up(cls, poison: dict[str, Poison], dead: list[str]) -> Poisoned:
        return cls(poison, dead, time.monotonic())

    @property
    def wrongly_dead(self) -> list[str]:
        """Dead letters that are no poison, or that are dead twice."""
        return sorted((Counter(self.dead) - Counter([*self.poison])).elements())

    @property
    def alive(self) -> list[str]:
        """Poison that should be a dead letter by now."""
        return sorted(
            f"{name}: {poison.status}, after {self.ended - poison.at:.0f} s"
            for name, poison in self.poison.items()
            if name not in self.dead and not (poison.is_retried and self.ended - poison.at < LIFE)
        )

    @property
    def problems(self) -> dict[str, list[str]]:
        """What breaks a rule, by rule."""
        return {
            "Dead, and not refused by the endpoint": self.wrongly_dead,
            "Refused by the endpoint, and not dead": self.alive,
        }

    def figures(self) -> Iterator[tuple[str, Any]]:
        retried = sum(poison.is_retried for poison in self.poison.values())
        yield (
            "messages that the endpoint refused / of them retried",
            f"{len(self.poison)} / {retried}",
        )
        yield "… dead letters", len(self.dead)
        yield "… that should be, and are not", len(self.alive)
        yield "dead letters that the endpoint did not refuse", len(self.wrongly_dead)
