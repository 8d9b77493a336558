"""Measure a Django view under gunicorn with an event, tracked in several ways, and without one.

As many threads request the page as gunicorn has processes, each as soon as it has its answer.
gunicorn leaves a core to the Redis and the worker, which stand on other machines in production.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from benchmarks.site import WORKERS, Site, make_database
from benchmarks.stage import Stage
from benchmarks.workers import DEFAULT, Worker

NAMES = {
    "none": "no event",
    "ours": "celery-segment",
    "library": "segment-analytics-python",
    "task": "a Celery task per event",
}
TOLD = {
    "rate": "requests/s",
    "p50": "p50, ms",
    "p99": "p99, ms",
    "cpu": "CPU time of gunicorn per request, ms",
}

#: What the load generator measured, by kind: one for each round.
Found = dict[str, list[dict[str, float]]]


def measure(*, quick: bool) -> Figure:
    rounds, seconds = (6, 0.8) if quick else (15, 1.2)
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        sites = _sites(stack, stage)
        load = Contestant("load", "benchmarks.load", {"threads": WORKERS})
        stack.enter_context(load)
        for site in sites.values():
            load.round([site.port, 1])
        found: Found = {kind: [] for kind in sites}
        for n in range(rounds):
            kinds = list(sites)
            for kind in kinds[n % 4 :] + kinds[: n % 4]:
                found[kind].append(_round(load, sites[kind], seconds))
    rows = [
        Row(f"{NAMES[kind]}, {told}", [each[key] for each in rounds_])
        for key, told in TOLD.items()
        for kind, rounds_ in found.items()
    ]
    return Figure("A Django view under gunicorn", "", rows, _claims(found))


def _round(load: Contestant, site: Site, seconds: float) -> dict[str, float]:
    before = site.cpu()
    found: dict[str, float] = load.round([site.port, seconds])
    return {**found, "cpu": (site.cpu() - before) * 1000 / found["requests"]}


def _sites(stack: ExitStack, stage: Stage) -> dict[str, Site]:
    """Start a site for each kind, and a worker for the plain tasks."""
    folder = Path(stack.enter_context(TemporaryDirectory()))
    # The plain tasks have a database of their own, where the deliveries' worker is not.
    environ = {
        **stage.environ,
        "DJANGO_SETTINGS_MODULE": "benchmarks.web.settings",
        "SEGMENT_BENCH_DATABASE": str(folder / "db.sqlite3"),
    }
    plain = {**environ, "SEGMENT_BENCH_BROKER": stage.redis.url.removesuffix("/0") + "/1"}
    make_database(environ)
    stack.enter_context(Worker("benchmarks.web.celery", plain, DEFAULT)).wait_until_idle()
    return {
        kind: stack.enter_context(Site(kind, plain if kind == "task" else environ))
        for kind in NAMES
    }


def _claims(found: Found) -> list[Claim]:
    def pairs(key: str, kind: str) -> list[tuple[float, float]]:
        other = zip(found["none"], found[kind], strict=True)
        return [(without[key], with_[key]) for without, with_ in other]

    def lost(kind: str) -> float:
        return median(1 - b / a for a, b in pairs("rate", kind)) * 100

    return [
        Claim("% of requests/s that a call costs", lost("ours"), 3),
        Claim("ms of p99 that a call costs", median(b - a for a, b in pairs("p99", "ours")), 0.3),
        Claim("% that a call costs / % that a task costs", lost("ours") / lost("task"), 1),
    ]
