"""Find sources that are stored in Redis and are not configured: nobody delivers them.

A source that was renamed or removed in the configuration leaves what it holds behind, and so do the
last shards of one that has fewer of them now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from celery_segment.buffer import (
    BufferAdmin,
    Snapshot,
    Topology,
    noted_sources,
    stored_sources,
)
from celery_segment.config import Settings

__all__ = [
    "SEARCH",
    "Unconfigured",
    "figures_of",
    "find_unconfigured",
    "is_of_another",
    "noted_unconfigured",
]

#: Seconds for which the keys of a database are searched: some two million of them.
SEARCH = 1.5


@dataclass(frozen=True, slots=True)
class Unconfigured:
    """The sources that are stored and not configured.

    Attributes:
        figures: Their figures, by name: of those which hold messages, or callbacks to run.
        is_complete: Whether all keys were searched, or the database was too large for it.
    """

    figures: dict[str, Snapshot] = field(default_factory=dict)
    is_complete: bool = True


def find_unconfigured(topology: Topology, settings: Settings) -> Unconfigured:
    """Search Redis for sources that are not configured.

    Raises:
        SegmentBufferError: Redis did not answer, or refuses the user.
    """
    stored = stored_sources(topology, settings.namespace, SEARCH)
    return Unconfigured(figures_of(topology, settings, stored.names), stored.is_complete)


def is_of_another(figures: Snapshot, application: str) -> bool:
    """Return whether the workers of another application were the first to deliver a source."""
    return figures.owner not in {"", application}


def noted_unconfigured(
    topology: Topology, settings: Settings, application: str
) -> dict[str, Snapshot]:
    """As ``find_unconfigured``, of those alone for which a worker was ever started: at once.

    Those of other applications are left to them.

    Raises:
        SegmentBufferError: Redis did not answer, or refuses the user.
    """
    found = figures_of(topology, settings, noted_sources(topology, settings.namespace))
    return {n: each for n, each in found.items() if not is_of_another(each, application)}


def figures_of(topology: Topology, settings: Settings, names: Iterable[str]) -> dict[str, Snapshot]:
    """Return the figures of those of the sources that are not configured and hold something."""
    return dict(_figures(topology, settings, sorted({*names} - {*settings.shards})))


def _figures(
    topology: Topology, settings: Settings, names: Iterable[str]
) -> Iterator[tuple[str, Snapshot]]:
    like = next(iter(settings.sources.values()))
    for name in names:
        figures = BufferAdmin(topology, like.stored_as(name)).snapshot()
        if figures.waiting or figures.dead.messages or figures.uncalled_batches:
            yield name, figures
