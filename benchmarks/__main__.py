"""Measure the figures, and write the results.

    python -m benchmarks                 all figures
    python -m benchmarks --quick         all figures, in about six minutes
    python -m benchmarks call memory     some figures

Only the first form writes benchmarks/RESULTS.md and docs/images/performance.svg. The exit status
is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

HERE = Path(__file__).parent
#: Those of live traffic come first.
FIGURES = (
    *("live_call", "live_cost", "live_backlog", "latency", "web_view", "idle", "config_styles"),
    *(
        "typed_events",
        "in_task",
        "longest_script",
        "append",
        "call",
        "delivery",
        "backlog",
        "memory",
        "importing",
    ),
    *("footprint", "connections", "processes", "hosts", "awaited"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], metavar="FIGURE")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    console = Console(highlight=False)
    figures = []
    for name in arguments.figures or FIGURES:
        began = time.monotonic()
        measure = import_module(f"benchmarks.figures.{name}").measure
        figure: Figure = measure(quick=arguments.quick)
        figures.append(figure)
        show(console, figure)
        console.print(f"[dim]{time.monotonic() - began:.0f} s[/]\n")
    if not arguments.quick and not arguments.figures:
        from benchmarks import report

        (HERE / "RESULTS.md").write_text(report.page(figures))
        report.plot(figures, HERE.parent / "docs/images/performance.svg")
    return 0 if all(claim.reached for figure in figures for claim in figure.claims) else 1


def show(console: Console, figure: Figure) -> None:
    table = Table("", "median", "min", "max", title=figure.title, title_justify="left")
    for row in figure.rows:
        numbers = (row.median, min(row.values), max(row.values))
        table.add_row(row.name, *(f"{number:,.2f}" for number in numbers))
    console.print(table)
    for claim in figure.claims:
        goal = f"{'at least' if claim.at_least else 'at most'} {claim.goal:g}"
        verdict = "[green]reached[/]" if claim.reached else "[red]missed[/]"
        console.print(f"  {claim.text}: [bold]{claim.value:,.3g}[/], {goal}: {verdict}")
    for note in figure.notes:
        console.print(f"  [dim]{note}[/]")


if __name__ == "__main__":
    sys.exit(main())
