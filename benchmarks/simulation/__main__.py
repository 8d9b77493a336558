"""Show the measured points beside the simulated ones, and the plan; or measure anew.

    python -m benchmarks.simulation             what is stored
    python -m benchmarks.simulation --measure   measure anew; a quarter of an hour on quiet cores
    python -m benchmarks.simulation --store     the same, and keep it
    python -m benchmarks.simulation --renew     write the page's tables from what is kept

The exit status is 1 if a point is not reproduced.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks.simulation import page, parameters
from benchmarks.simulation.comparing import EXCEPTED, compare

#: Rounds of each delivery; an append has four times as many, which are short.
ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--renew", action="store_true")
    arguments = parser.parse_args()
    if arguments.measure or arguments.store:
        from benchmarks.simulation.measuring import measure

        measured = measure(ROUNDS)
        if arguments.store:
            parameters.store(measured)
    else:
        measured = parameters.load()
    if arguments.store or arguments.renew:
        page.renew(measured)
    compared = compare(measured)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in (
        *page.points(measured, compared),
        "",
        *page.costs(measured),
        "",
        *page.plan(measured),
    ):
        console.print(line)
    return 0 if all(each.is_near or each.point.what in EXCEPTED for each in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
