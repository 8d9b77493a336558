"""Judge whether the workers run the callbacks that the processes of an application store. No I/O.

What a worker refuses is lost, and told by its log alone. Signing keys are compared by their
fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from celery_segment.operations.findings import Finding
from celery_segment.text import one_line

if TYPE_CHECKING:
    from celery_segment.worker.interview import Facts, TrustFacts

__all__ = ["of_trust"]

_HERE = "this process"


def of_trust(workers: Mapping[str, Facts], own: Facts) -> Iterator[Finding]:
    """Judge whether each worker runs the callbacks that this process and the workers store.

    Args:
        workers: The workers that deliver from this process' buffer.
        own: The facts of this process.
    """
    storing = {name: facts.trust for name, facts in {_HERE: own, **workers}.items()}
    if not any(trust.fingerprints or trust.allowed for trust in storing.values()):
        return
    found = [f for worker, facts in workers.items() for f in _of_worker(worker, facts, storing)]
    yield from found or [Finding("callbacks", None, "ok", "the workers run those that are stored")]


def _of_worker(worker: str, facts: Facts, storing: Mapping[str, TrustFacts]) -> Iterator[Finding]:
    trust, name = facts.trust, one_line(worker)
    same = "give all processes the same SEGMENT_SIGNING_KEY, and restart them"
    signing = {who: each.fingerprints[0] for who, each in storing.items() if each.fingerprints}
    strange = one_line(
        ", ".join(who for who, key in signing.items() if key not in trust.fingerprints)
    )
    if strange and trust.trusts_all:
        found = f"{name} has no segment_signing_key, so it runs unsigned ones, too"
        yield Finding("callbacks", None, "warn", found, same)
        return
    if strange:
        has = (
            "has another segment_signing_key"
            if trust.fingerprints
            else "has no segment_signing_key"
        )
        found = f"{name} {has}, so it refuses those of {strange}"
        yield Finding("callbacks", None, "fail", found, same)
    if trust.trusts_all:
        return
    unsigned = {who: each for who, each in storing.items() if not each.fingerprints}
    loose = one_line(", ".join(who for who, each in unsigned.items() if each.trusts_all))
    if loose:
        found = f"{name} refuses unsigned ones, and {loose} has no segment_signing_key"
        yield Finding("callbacks", None, "warn", found, same)
    for who, each in unsigned.items():
        refused = sorted({*each.allowed} - {*trust.allowed})
        if refused:
            found = f"{name} refuses {', '.join(refused)}, which {who} may store"
            hint = "set segment_allowed_callbacks to the same in all processes, and restart them"
            yield Finding("callbacks", None, "fail", one_line(found), hint)
