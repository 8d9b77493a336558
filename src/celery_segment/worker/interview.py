"""Answer what ``segment check`` asks the workers: what each delivers, from where, with which keys.

It is a command of Celery's remote control. An answer holds neither a key nor a password:
whether two processes have the same write key is seen by a fingerprint, whose salt is new for each
check, so that answers of different times cannot be compared. For signing keys, see ``Trust``.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import msgspec

from celery_segment.buffer import connect
from celery_segment.buffer.server_info import read_run_id
from celery_segment.config import Settings, Source
from celery_segment.errors import SegmentError
from celery_segment.producer import DRAIN
from celery_segment.runtime import runtime_of
from celery_segment.version import __version__
from celery_segment.worker.local import queue_of

__all__ = ["COMMAND", "Facts", "SourceFacts", "TrustFacts", "facts_of", "register_interview"]

logger = logging.getLogger("celery_segment")

#: The name of the command.
COMMAND = "segment_interview"
#: Timeout for Redis in seconds: a worker's event loop waits with it.
PATIENCE = 0.5
#: Hexadecimal digits of a fingerprint.
DIGITS = 16


class SourceFacts(msgspec.Struct, frozen=True):
    """What a process knows of a source.

    Attributes:
        enabled: Whether it is enabled.
        fingerprint: That of its write key; None where there is none.
        shards: The number of its shards.
        ordered: Whether the order of its messages is kept.
        oauth_fingerprint: That of its client and key of OAuth, by their ids; None without.
    """

    enabled: bool
    fingerprint: str | None
    shards: int = 1
    ordered: bool = False
    oauth_fingerprint: str | None = None


class TrustFacts(msgspec.Struct, frozen=True):
    """Which callbacks a process signs and, as a worker, runs.

    Attributes:
        fingerprints: Those of the signing keys that it accepts; it signs with the first.
        trusts_all: Whether it runs whatever is not signed.
        allowed: The names of the tasks that it runs unsigned, too.
    """

    fingerprints: list[str] = []
    trusts_all: bool = False
    allowed: list[str] = []


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """How a process is configured, as far as others have to agree with it.

    Attributes:
        version: The version of this library.
        application: The name of the Celery application.
        namespace: ``segment_namespace``.
        redis: The address of the buffer's Redis and its database; "" where there is none.
        server: The server's run id; "" where it could not be read.
        database: The number of the database.
        problem: Why Redis could not be asked; "" if it could.
        queue: The queue of ``segment.drain``.
        consumes: The queues that a worker consumes.
        sources: What is known of each source, by its name.
        trust: Which callbacks it signs and runs.
        captures: Whether its calls are captured, although no tests run.
        logs: Whether this library's errors are logged.
        idempotency: ``segment_idempotency``.
        propagates_visitor: Whether it sends the visitor of a request with a task, and reads it.
    """

    version: str
    application: str
    namespace: str
    redis: str = ""
    server: str = ""
    database: int = 0
    problem: str = ""
    queue: str
    consumes: list[str] = []
    sources: dict[str, SourceFacts] = {}
    trust: TrustFacts
    captures: bool = False
    logs: bool = True
    idempotency: str
    propagates_visitor: bool


def facts_of(app: Any, salt: str, consumes: Iterable[str] = ()) -> Facts:
    """Return the facts of this process.

    Args:
        app: The Celery application.
        salt: The salt of the fingerprints.
        consumes: The queues that it consumes, if it is a worker.
    """
    runtime = runtime_of(app)
    settings, trust = runtime.settings, runtime.trust
    return Facts(
        version=__version__,
        application=app.main or "",
        namespace=settings.namespace,
        **_redis(settings),
        queue=queue_of(app, DRAIN, settings.queue),
        consumes=sorted(consumes),
        sources={
            name: SourceFacts(
                source.enabled,
                _of_key(source, salt),
                source.shards,
                source.ordered,
                _of_oauth(source, salt),
            )
            for name, source in settings.sources.items()
        },
        trust=TrustFacts(trust.fingerprints, trust.trusts_all, sorted(trust.allowed)),
        captures=runtime.loses_calls,
        logs=logger.isEnabledFor(logging.ERROR),
        idempotency=settings.idempotency,
        propagates_visitor=settings.propagate_visitor,
    )


def register_interview() -> None:
    """Have the workers of this process answer."""
    from celery.worker.control import inspect_command

    inspect_command(name=COMMAND, visible=False)(_answer)


def _answer(state: Any, salt: str, **_: Any) -> dict[str, Any]:
    """Describe this worker to ``segment check``."""
    facts = facts_of(state.app, salt, state.app.amqp.queues.consume_from)
    builtins: dict[str, Any] = msgspec.to_builtins(facts)
    return builtins


def _redis(settings: Settings) -> dict[str, Any]:
    if not settings.redis_url:
        return {}
    timeout = min(settings.redis_timeout, PATIENCE)
    with closing(connect(settings.redis_url, timeout, settings.redis_options)) as topology:
        number = topology.database
        where = {"redis": f"{topology.address}, database {number}", "database": number}
        try:
            return {**where, "server": read_run_id(topology, settings.namespace)}
        except SegmentError as error:
            return {**where, "problem": error.problem}


def _of_key(source: Source, salt: str) -> str | None:
    return None if source.write_key is None else _fingerprint(source.write_key.reveal(), salt)


def _of_oauth(source: Source, salt: str) -> str | None:
    """Return the fingerprint of what the key is known by: its file may be another's to read."""
    oauth = source.oauth
    if oauth is None:
        return None
    ids = (oauth.client_id, oauth.key_id, oauth.server_of(source.host), oauth.scope)
    return _fingerprint("\n".join(ids), salt)


def _fingerprint(secret: str, salt: str) -> str:
    return hmac.new(salt.encode(), secret.encode(), "sha256").hexdigest()[:DIGITS]
