"""RESULTS.md and its plot."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from benchmarks.children import PEERS
from benchmarks.figures import Figure
from celery_segment.testing.redis import find_server

INTRODUCTION = """\
# Results

Made by `make bench`. Contestants are processes of their own; their rounds alternate, so that
whatever slows the machine slows them alike. Rows are medians over the rounds, with the least
and the most; ratios are medians of the rounds' ratios. One machine's figures: compare
ratios, not microseconds.
"""
OURS = ("celery", "kombu", "redis", "hiredis", "msgspec", "isal", "requests")
THEIRS = "segment-analytics-python"


def page(figures: list[Figure]) -> str:
    """Return the page's text."""
    return "\n".join([INTRODUCTION, *_machine(), "", *_claims(figures), *_tables(figures)]) + "\n"


def _machine() -> Iterator[str]:
    yield f"- {datetime.now(timezone.utc):%Y-%m-%d}; {os.cpu_count()} cores, {_processor()}"
    redis = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\S+)", redis.stdout)
    yield f"- Python {platform.python_version()}, Redis {found[1] if found else '?'}, without AOF"
    yield "- " + ", ".join(f"{name} {version(name)}" for name in ("celery-segment", *OURS))
    program = f"from importlib.metadata import version; print(version({THEIRS!r}))"
    peer = subprocess.run([PEERS, "-c", program], capture_output=True, text=True, check=True)
    yield f"- beside {THEIRS} {peer.stdout.strip()}"


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _claims(figures: list[Figure]) -> Iterator[str]:
    yield "| figure | found | to reach | |"
    yield "|---|---:|---:|---|"
    for figure in figures:
        for claim in figure.claims:
            goal = f"{'≥' if claim.at_least else '≤'} {claim.goal:g}"
            reached = "reached" if claim.reached else "**missed**"
            yield f"| {figure.title}: {claim.text} | {claim.value:,.3g} | {goal} | {reached} |"


def _tables(figures: list[Figure]) -> Iterator[str]:
    for figure in figures:
        yield f"\n## {figure.title}\n"
        yield f"| | median, {figure.unit} | least | most |"
        yield "|---|---:|---:|---:|"
        for row in figure.rows:
            numbers = (row.median, min(row.values), max(row.values))
            yield f"| {row.name} | {' | '.join(f'{n:,.2f}' for n in numbers)} |"
        for note in figure.notes:
            yield f"\n{note}"


def plot(figures: list[Figure], path: Path) -> None:
    """Draw the latency of a call and the throughput of a delivery, beside the peers'."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "celery-segment"
    from matplotlib import pyplot as plt

    chosen = [figure for figure in figures if figure.title.startswith(("The call", "Events"))]
    drawn, axes = plt.subplots(len(chosen), figsize=(8, 1.9 * len(chosen)))
    for figure, axis in zip(chosen, axes, strict=True):
        rows = figure.rows[::-1]
        ours = ["track.delay" in row.name or "celery-segment" in row.name for row in rows]
        colours = ["#3b7d4f" if own else "#9aa3ad" for own in ours]
        bars = axis.barh([row.name for row in rows], [row.median for row in rows], color=colours)
        axis.set_xscale("log")
        axis.bar_label(bars, [f"{row.median:,.0f}" for row in rows], padding=4, fontsize=8)
        better = "more" if figure.more_is_better else "less"
        axis.set_title(f"{figure.title}, {figure.unit}: {better} is better", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    drawn.savefig(path, metadata={"Date": None})
