"""Judge what the workers answered: ok, warn or fail, with how to fix it. No I/O.

A worker may be healthy and still deliver nothing of what this process stores: from another
Redis, without the key, on queues that are not those of the library's tasks. So the
configuration of each worker is compared with that of this process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from celery_segment.config import DEFAULT_SOURCE
from celery_segment.operations.findings import Finding, State, of_capture
from celery_segment.operations.task_findings import of_tasks
from celery_segment.operations.trust_findings import of_trust
from celery_segment.producer import DELIVER
from celery_segment.text import counted, one_line

if TYPE_CHECKING:
    from celery_segment.config import Source
    from celery_segment.operations.interviews import Answers
    from celery_segment.worker.interview import Facts, SourceFacts

__all__ = ["of_agreement", "of_key", "of_oauth", "of_unaskable", "of_worker", "of_workers"]


def of_workers(
    answers: Answers, queue: str | None = None, *, is_waited_for: bool = False
) -> Iterator[Finding]:
    """Judge whether there are workers that could deliver.

    Args:
        answers: The answers.
        queue: The queue of the library's tasks, if it is set by segment_queue.
        is_waited_for: Whether messages wait that a worker would have claimed.
    """
    able = answers.able
    if able:
        verb = "answers" if len(able) == 1 else "answer"
        yield Finding("workers", None, "ok", f"{counted(len(able), 'worker')} {verb}")
        silent = [worker for worker in able if worker not in answers.facts]
        if silent:
            found = f"{_names(silent)} cannot say how it is configured"
            hint = "install the same version of celery-segment everywhere, and restart the workers"
            yield Finding("versions", None, "warn", found, hint)
    elif answers.tasks:
        found = f"{counted(len(answers.tasks), 'worker')} without the task {DELIVER}"
        hint = "set imports = ['celery_segment'] in their configuration"
        yield Finding("workers", None, "warn", found, hint)
    else:
        command = f"celery worker -Q {queue}" if queue else "celery worker"
        hint = f"start one with `{command}`; if one runs, give it the broker_url of this process"
        broker = f" at {one_line(answers.broker)}" if answers.broker else ""
        found = f"no worker answers{broker}" + (", and messages wait" if is_waited_for else "")
        yield Finding("workers", None, "fail" if is_waited_for else "warn", found, hint)


def of_unaskable(why: str, worker: str | None = None) -> Finding:
    """Report that the workers have no remote control.

    Args:
        why: Why not.
        worker: The name of the worker that was to be checked, if it is only one. A health check
            that can check nothing must not report health.
    """
    if worker:
        found = f"{one_line(worker)} cannot be asked: {one_line(why)}"
        hint = "use another health check for this worker"
        return Finding("worker", None, "fail", found, hint)
    found = f"cannot be asked: {one_line(why)}"
    hint = (
        "make sure that a worker runs, consumes the queue of segment.drain, has the write key, and"
        " uses this Redis: its log says so at its start"
    )
    return Finding("workers", None, "warn", found, hint)


def of_worker(name: str, answers: Answers) -> Finding:
    """Judge one worker that is expected to run: if it does not answer, that is a failure."""
    if not isinstance(answers.tasks.get(name), list):
        hint = "check that it runs, and its name (-n); restart it if it hangs"
        return Finding("worker", None, "fail", f"{one_line(name)} does not answer", hint)
    if name not in answers.able:
        hint = "set imports = ['celery_segment'] in its configuration"
        return Finding("worker", None, "fail", f"{name} does not have the task {DELIVER}", hint)
    return Finding("worker", None, "ok", f"{name} answers")


# ---------------------------------------------------------------- what has to agree


def of_agreement(answers: Answers) -> Iterator[Finding]:
    """Judge whether the workers deliver what this process stores.

    Those of other applications, which share the broker alone, do not matter.
    """
    own = answers.own
    if own is None:
        return
    ours = _ours(answers.facts, own)
    yield from _versions(ours, own)
    here = {worker: facts for worker, facts in ours.items() if _is_here(facts, own)}
    yield from _buffers(ours, own)
    if here:
        yield from _shards(here, own)
        yield _queue(here, own)
        yield from of_trust(here, own)
    yield from of_tasks(ours, own)
    for worker, facts in ours.items():
        yield from _habits(worker, facts)


def _ours(workers: Mapping[str, Facts], own: Facts) -> Mapping[str, Facts]:
    """Return the workers of this application, and those that deliver from this buffer."""
    named = {
        worker: facts
        for worker, facts in workers.items()
        if facts.application == own.application or _is_here(facts, own)
    }
    return named or workers


def _is_here(facts: Facts, own: Facts) -> bool:
    return _is_same_redis(facts, own) and facts.namespace == own.namespace


def _is_same_redis(facts: Facts, own: Facts) -> bool:
    if facts.server and own.server:
        return (facts.server, facts.database) == (own.server, own.database)
    return facts.redis == own.redis


def _versions(workers: Mapping[str, Facts], own: Facts) -> Iterator[Finding]:
    others = {w: facts.version for w, facts in workers.items() if facts.version != own.version}
    for worker, version in others.items():
        found = f"{one_line(worker)} has celery-segment {one_line(version)}"
        hint = "install the same version everywhere, and restart the workers"
        yield Finding("versions", None, "warn", f"{found}, and this process {own.version}", hint)


def _buffers(workers: Mapping[str, Facts], own: Facts) -> Iterator[Finding]:
    away = {worker: facts for worker, facts in workers.items() if not _is_here(facts, own)}
    # While others deliver what is stored here, this is no more than strange.
    state: State = "warn" if len(away) < len(workers) else "fail"
    for worker, facts in away.items():
        of = (
            "" if facts.application == own.application else f" of application {facts.application!r}"
        )
        name = one_line(f"{worker}{of}")
        if not _is_same_redis(facts, own):
            theirs = one_line(facts.redis) or "no Redis"
            found = f"{name} delivers from {theirs}; this process stores in {own.redis}"
            hint = "give both the same segment_redis_url"
        else:
            theirs = f"namespace {facts.namespace!r}" if facts.namespace else "no namespace"
            mine = f"namespace {own.namespace!r}" if own.namespace else "no namespace"
            found = f"{name} delivers from {one_line(theirs)}; this process stores in {mine}"
            hint = "give both the same segment_namespace"
        yield Finding("buffer", None, state, found, hint)
    for worker, facts in workers.items():
        if facts.problem and worker not in away:
            found = f"{one_line(worker)} has no connection: {one_line(facts.problem)}"
            hint = "check the network between this worker and Redis"
            yield Finding("buffer", None, "fail", found, hint)
    if not away and not any(facts.problem for facts in workers.values()):
        yield Finding("buffer", None, "ok", "the workers deliver from this Redis")


def _shards(workers: Mapping[str, Facts], own: Facts) -> Iterator[Finding]:
    """Report where a worker looks for a source's messages in other shards than they are stored."""
    for name, mine in own.sources.items():
        for worker, facts in workers.items():
            theirs = facts.sources.get(name, mine)
            if (theirs.shards, theirs.ordered) != (mine.shards, mine.ordered):
                found = f"{one_line(worker)} has {_how(theirs)}; this process {_how(mine)}"
                hint = "set segment_shards and segment_ordered alike, and restart the processes"
                yield Finding("shards", name, "fail", found, hint)


def _how(facts: SourceFacts) -> str:
    return counted(facts.shards, "ordered shard" if facts.ordered else "shard")


def _queue(workers: Mapping[str, Facts], own: Facts) -> Finding:
    at_work = _consuming(workers)
    if not at_work:
        worker, facts = next(iter(workers.items()))
        consumed = ", ".join(map(repr, facts.consumes))
        found = (
            f"no worker consumes {facts.queue!r}, the queue of segment.drain; {worker} consumes"
            f" {consumed}"
        )
        hint = f"start a worker with `celery worker -Q {facts.queue}`, or change segment_queue"
        return Finding("queue", None, "fail", one_line(found), one_line(hint))
    if not any(own.queue in facts.consumes for facts in workers.values()):
        found = f"flush() wakes workers through {own.queue!r}, which no worker consumes"
        hint = "set segment_queue to the same here as in the workers, and restart them"
        return Finding("queue", None, "warn", one_line(found), hint)
    found = f"{own.queue!r} is consumed by {counted(len(at_work), 'worker')}"
    return Finding("queue", None, "ok", one_line(found))


def _habits(worker: str, facts: Facts) -> Iterator[Finding]:
    """Report a worker whose tasks lose their calls, or that keeps its errors to itself."""
    if facts.captures:
        yield of_capture(worker)
    if not facts.logs:
        found = f"{one_line(worker)} logs none of this library's errors: its logger is off"
        hint = "name the logger 'celery_segment' in LOGGING, or set disable_existing_loggers False"
        yield Finding("log", None, "warn", found, hint)


def _consuming(workers: Mapping[str, Facts]) -> dict[str, Facts]:
    return {worker: facts for worker, facts in workers.items() if facts.queue in facts.consumes}


# ---------------------------------------------------------------- write keys


def of_key(source: Source, answers: Answers, stray: str = "") -> Finding:
    """Judge whether those who deliver a source have its write key.

    Args:
        source: The source.
        answers: The answers; where no worker was interviewed, this process alone is judged.
        stray: How to rename a setting that was meant as this one's, and is not read.
    """
    own = answers.own
    if own is not None:
        known = _delivering(source, answers.facts, own)
        return _of_workers_key(source, known, own.sources.get(source.name), stray)
    if source.write_key is not None:
        return Finding("write key", source.name, "ok", "present")
    if stray:
        return Finding("write key", source.name, "fail", "absent", stray)
    hint = f"if this is a worker's environment, set {_key(source.name)}"
    return Finding("write key", source.name, "warn", "absent; only workers need it", hint)


def _delivering(
    source: Source, workers: Mapping[str, Facts], own: Facts
) -> Mapping[str, SourceFacts]:
    """Return what those know of a source who deliver it, or may be meant to."""
    ours = _ours(workers, own)
    here = {worker: facts for worker, facts in ours.items() if _is_here(facts, own)}
    found = _consuming(here) or here or ours
    return {
        w: facts.sources[source.name] for w, facts in found.items() if source.name in facts.sources
    }


def _key(source: str) -> str:
    """Return what gives a process a source's write key."""
    if source == DEFAULT_SOURCE:
        return "segment_write_key, or SEGMENT_WRITE_KEY in the environment"
    return f"segment_sources[{source!r}]['write_key']"


def _of_workers_key(
    source: Source, workers: Mapping[str, SourceFacts], own: SourceFacts | None, stray: str
) -> Finding:
    name, mine = source.name, own.fingerprint if own else None
    if not workers:
        hint = "give the workers the segment_sources of this process, and restart them"
        return Finding("write key", name, "fail", "no worker has this source configured", hint)
    enabled = {worker: facts for worker, facts in workers.items() if facts.enabled}
    if not enabled:
        hint = "set segment_enabled in the workers as in this process, and restart them"
        return Finding("write key", name, "fail", "the source is off in all workers", hint)
    keys = {
        worker: facts.fingerprint
        for worker, facts in enabled.items()
        if facts.fingerprint is not None
    }
    if not keys:
        here = "" if mine is None else ", only this process"
        hint = stray or f"give the workers {_key(name)}, and restart them"
        return Finding("write key", name, "fail", f"no worker has it{here}", hint)
    return _of_keys(name, keys, [worker for worker in enabled if worker not in keys], mine)


def _of_keys(name: str, keys: Mapping[str, str], lacking: list[str], mine: str | None) -> Finding:
    """Judge the keys that there are, by their fingerprints."""
    if len({*keys.values()}) > 1:
        found = f"differs between {_names(keys)}"
        hint = "give all workers the key of one Segment source, and restart them"
        return Finding("write key", name, "fail", found, hint)
    if lacking:
        found = f"absent in {_names(lacking)}, which leaves the source to others"
        return Finding("write key", name, "warn", found, f"set {_key(name)}, and restart it")
    if mine is not None and mine not in keys.values():
        found = "differs from the workers', which is the one that is used"
        hint = "give this process the same key, or none: only workers need it"
        return Finding("write key", name, "warn", found, hint)
    return Finding("write key", name, "ok", "present" if mine else "present in the workers")


def of_oauth(source: Source, answers: Answers) -> Iterator[Finding]:
    """Judge whether those who deliver a source have the same credentials of OAuth."""
    if answers.own is None:
        return
    known = _delivering(source, answers.facts, answers.own)
    enabled = {worker: facts for worker, facts in known.items() if facts.enabled}
    ids = {w: f.oauth_fingerprint for w, f in enabled.items() if f.oauth_fingerprint is not None}
    own = answers.own.sources.get(source.name)
    mine = own.oauth_fingerprint if own else None
    if mine is None and not ids:
        return
    name, hint = source.name, "give all workers the same segment_oauth, and restart them"
    if enabled and not ids:
        found = "no worker has it, only this process: they use the write key alone"
        yield Finding("oauth", name, "warn", found, hint)
    elif lacking := [worker for worker in enabled if worker not in ids]:
        found = f"absent in {_names(lacking)}, which uses the write key alone"
        yield Finding("oauth", name, "warn", found, hint)
    elif len({*ids.values()}) > 1:
        found = f"differs between {_names(ids)}, as it does while a key is replaced"
        yield Finding("oauth", name, "warn", found, hint)
    elif mine is not None and ids and mine not in ids.values():
        found = "differs from the workers', which is the one that is used"
        hint = "give this process the same segment_oauth, or none: only workers need it"
        yield Finding("oauth", name, "warn", found, hint)
    else:
        where = "present" if mine else "present in the workers"
        yield Finding("oauth", name, "ok", where)


def _names(workers: Iterable[str]) -> str:
    return one_line(", ".join(workers))
