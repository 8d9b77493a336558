"""Empty an old buffer into the configured one: that of another Redis, or of another namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from celery_segment.buffer import Snapshot, Topology
from celery_segment.buffer.server_info import read_run_id
from celery_segment.config import Settings, Source
from celery_segment.config.parsers import namespace as checked
from celery_segment.errors import ConfigurationError
from celery_segment.operations.moving import Move, SourceMove, pairs, shards_of, target_of
from celery_segment.operations.unconfigured import find_unconfigured, is_of_another
from celery_segment.runtime import Runtime, runtime_of

__all__ = ["Emptying", "empty"]


@dataclass(frozen=True, slots=True)
class Emptying:
    """The moves that empty an old buffer.

    Attributes:
        old_address: Where the old buffer is, for people.
        new_address: Where the configured one is.
        moves: The move of each source, by its name.
        others: The figures of sources that the old buffer holds and that are not moved, since
            they are not configured, or not enabled.
        is_complete: Whether all keys were searched for such sources.
    """

    old_address: str
    new_address: str
    moves: dict[str, SourceMove]
    others: dict[str, Snapshot]
    is_complete: bool


def empty(
    app: Any, url: str = "", *, namespace: str | None = None, names: Iterable[str] = ()
) -> Emptying:
    """Return the moves of all that an old buffer holds to the configured one.

    Args:
        app: The Celery application.
        url: The URL of the old buffer's Redis, in the form of ``segment_redis_url``; by default the
            configured one.
        namespace: The old buffer's namespace; by default the configured one.
        names: The names of the sources to move; by default of all that are enabled.

    Raises:
        ConfigurationError: The URL or the namespace is not understood, or is the configured
            buffer's; a source is not configured, or not enabled.
        SegmentBufferError: One of the two did not answer.
    """
    runtime = runtime_of(app)
    new = runtime.settings
    targets = [target_of(runtime, name) for name in dict.fromkeys(names)] or new.enabled
    if not targets:
        raise ConfigurationError("no source is enabled", hint="set segment_enabled to True")
    old = _old_settings(new, targets, namespace)
    topology = runtime.connect_to(url, "the old buffer's URL") if url else runtime.topology
    is_one_server = _is_one_server(topology, runtime.topology, new.namespace)
    is_one_database = is_one_server and topology.database == runtime.topology.database
    if is_one_database and old.namespace == new.namespace:
        raise ConfigurationError(
            f"the old buffer is the configured one ({_place(topology, new)})",
            hint="give the URL of another server or database, or another namespace",
        )
    moves = {
        source.name: _move(app, runtime, topology, source, keeps_room=not is_one_server)
        for source in old.sources.values()
    }
    others, is_complete = ({}, True) if names else _others(topology, old, app.main or "")
    return Emptying(
        _place(topology, old), _place(runtime.topology, new), moves, others, is_complete
    )


def _old_settings(new: Settings, targets: Iterable[Source], namespace: str | None) -> Settings:
    """Return the settings of the old buffer: the sources to move, in its namespace."""
    try:
        namespace = new.namespace if namespace is None else checked(namespace)
    except ValueError as error:
        raise ConfigurationError(f"the old buffer's namespace {error}") from None
    sources = {source.name: replace(source, namespace=namespace) for source in targets}
    return replace(new, namespace=namespace, sources=sources)


def _is_one_server(old: Topology, new: Topology, namespace: str) -> bool:
    """Return whether both are the same server, by whichever names; False where it does not say.

    A move notices later, by what it stores, that both are one buffer.
    """
    if old is new:
        return True
    ids = {read_run_id(each, namespace) for each in (old, new)}
    return len(ids) == 1 and "" not in ids


def _move(
    app: Any, runtime: Runtime, topology: Topology, source: Source, *, keeps_room: bool
) -> SourceMove:
    shards = shards_of(topology, source)
    buffers = pairs(runtime, shards, source.name, topology)
    return SourceMove([Move(app, *each, runtime.spill, keeps_room=keeps_room) for each in buffers])


def _others(
    topology: Topology, old: Settings, application: str
) -> tuple[dict[str, Snapshot], bool]:
    found, like = find_unconfigured(topology, old), next(iter(old.sources.values()))
    others = {
        name: figures
        for name, figures in found.figures.items()
        if not is_of_another(figures, application)
        and old.sources.get(like.stored_as(name).name) is None
    }
    return others, found.is_complete


def _place(topology: Topology, settings: Settings) -> str:
    where = f"{topology.address}, database {topology.database}"
    return where + (f", namespace {settings.namespace}" if settings.namespace else "")
