"""Measure the longest that a script blocks Redis, in the states where it has most to do."""

from __future__ import annotations

from benchmarks import scenes
from benchmarks.figures import Claim, Figure, Row
from benchmarks.ours import application
from benchmarks.watch import SHORT, Watch
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis

GOAL = 2.0
CALLBACKS = MESSAGES = 2_500
NEVER = (0.0, "")


#: The longest run of each script, in milliseconds, and in which state.
Longest = dict[str, tuple[float, str]]


def measure(*, quick: bool) -> Figure:
    rounds, waiting, dead = (3, 200_000, 10_000) if quick else (2, 1_000_000, 100_000)
    found = [watched(waiting, dead) for _ in range(rounds)]
    # The longest run of one round may be that of a core which did something else meanwhile; what
    # takes long in each round is the script.
    least = {name: min(each.get(name, NEVER) for each in found) for name in set().union(*found)}
    names = sorted(
        (name for name in least if least[name] > NEVER), key=lambda name: -least[name][0]
    )
    rows = [
        Row(f"{name}, with {least[name][1]}", [each[name][0] for each in found]) for name in names
    ]
    claims = [Claim(f"the longest run of a script ({names[0]}), ms", least[names[0]][0], GOAL)]
    notes = [f"Every other script takes less than {SHORT} ms."]
    return Figure("The longest that a script blocks Redis", "ms", rows, claims, notes)


def watched(waiting: int, dead: int) -> Longest:
    """Run all scripts on a fresh Redis, and return the longest run of each that is not short."""
    with EmbeddedRedis(appendonly=False) as redis, Watch(redis) as watch:
        app = application(redis.url, **scenes.SETTINGS)
        scenes.backlog(watch, scenes.buffer_of(app, "default"), waiting)
        scenes.backlog(watch, scenes.buffer_of(app, "wide"), waiting)
        scenes.dead_letters(watch, scenes.buffer_of(app, "dead"), dead)
        trust = runtime_of(app).trust
        scenes.callbacks(watch, scenes.buffer_of(app, "linked"), CALLBACKS, trust)
        scenes.callbacks(watch, scenes.buffer_of(app, "hooked"), CALLBACKS, trust)
        scenes.forgotten(watch, scenes.buffer_of(app, "forgotten"), MESSAGES, trust)
        app.close()
        return watch.longest
