"""Change the library in many small ways, one at a time, and see whether the tests notice.

    PYTHONPATH=tests python -m mutation buffer/pool.py buffer/lua --sample 100 --seed 7

Without files all that have tests in `mutation.targets` are changed. A change that no test noticed
survives: a test is missing, or it makes no difference. The latter is entered, with the reason,
into `allowed.yaml`, and not tested again. Ends with 0 when nothing else survived.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from mutation import allowed, lua, python, report
from mutation.mutants import Mutant
from mutation.report import Result
from mutation.targets import STATE_MACHINE, files_of, suite_of
from mutation.workshop import ROOT, Job

#: Runs of the state machine: at first, and before a change counts as a survivor.
FEW, MANY = 20, 100
#: How often the tests may fail without a change, for want of time.
TRIES = 3
LIBRARY = ROOT / "src" / "celery_segment"


def find(modules: list[str]) -> list[Mutant]:
    """Return the mutants of files or folders below the package; of all, where none is named."""
    found: list[Mutant] = []
    for path in files_of(LIBRARY, modules):
        make = lua.mutants_of if path.endswith(".lua") else python.mutants_of
        found += make(path, (LIBRARY / path).read_text())
    return found


def run(mutants: list[Mutant], jobs: int, seconds: float, folder: Path) -> list[Result]:
    """Test mutants for so many seconds; return the results of those that had their turn.

    An interrupt (Ctrl-C) ends it as the time does.
    """
    waiting: SimpleQueue[Job] = SimpleQueue()
    made = [Job(folder / str(number)) for number in range(jobs)]
    for job in made:
        waiting.put(job)

    def test(mutant: Mutant, tests: list[str], timeout: float, examples: int) -> dict:
        job = waiting.get()
        try:
            return job.test(mutant, tests, timeout, examples)
        finally:
            waiting.put(job)

    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with ThreadPoolExecutor(jobs) as pool:
        deadline = time.monotonic() + seconds
        limits = dict(pool.map(lambda mutant: _limit(mutant, test), _first_of_each(mutants)))

        def tested(mutant: Mutant) -> Result | None:
            tests = suite_of(mutant.path)
            limit = limits[tuple(tests)]
            if limit is None or stop.is_set() or time.monotonic() > deadline:
                return None
            answer = test(mutant, tests, limit, FEW)
            if answer["outcome"] == "survived" and STATE_MACHINE in tests:
                answer = test(mutant, [STATE_MACHINE], limit * MANY / FEW, MANY)
            result = Result(mutant, answer["outcome"], answer["seconds"], answer["failed"])
            sys.stderr.write(f"{result.outcome} {mutant.path}:{mutant.line} {mutant.after}\n")
            return result

        results = [result for result in pool.map(tested, mutants) if result]
    for job in made:
        job.close()
    return results


def _first_of_each(mutants: list[Mutant]) -> list[Mutant]:
    """Return a mutant for each list of tests."""
    return [*{tuple(suite_of(mutant.path)): mutant for mutant in mutants}.values()]


def _limit(mutant: Mutant, test) -> tuple[tuple[str, ...], float | None]:
    """Run tests on the library as it is; return them, and how long they may take, seconds.

    That is None where they fail: then they tell nothing.
    """
    tests = suite_of(mutant.path)
    for _ in range(TRIES):
        answer = test(replace(mutant, changed=mutant.original), tests, 600, FEW)
        if answer["outcome"] == "survived":
            break
    else:
        sys.stderr.write(f"these tests fail without a change:\n{answer['output']}\n")
        return tuple(tests), None
    return tuple(tests), 20 + 3 * answer["seconds"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("modules", nargs="*", help="files or folders below the package")
    parser.add_argument("--sample", type=int, help="test so many mutants of each file at most")
    parser.add_argument("--seed", type=int, default=7, help="what decides on the sample")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="test the last run's survivors alone")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "mutation")
    arguments = parser.parse_args()

    found = find(arguments.modules)
    counts = Counter(mutant.path for mutant in found)
    reasons = allowed.read()
    chosen = _sample(found, arguments.sample, arguments.seed)
    if arguments.again:
        chosen = _survivors(found, arguments.folder / "report.json")
    others = [mutant for mutant in chosen if allowed.key_of(mutant) not in reasons]
    may_live = [mutant for mutant in chosen if allowed.key_of(mutant) in reasons]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = run(others, arguments.jobs, arguments.minutes * 60, Path(folder))
    title = f"{len(results)} of {len(found)}, seed {arguments.seed}"
    results += [Result(m, "allowed", why=reasons[allowed.key_of(m)]) for m in may_live]
    sys.stdout.write(report.write(arguments.folder, title, results, counts))
    stale = allowed.stale(reasons, found)
    sys.stdout.writelines(f"allowed.yaml: no such change: {key}\n" for key in stale)
    untested = {mutant.path for mutant in others} - {result.mutant.path for result in results}
    sys.stdout.writelines(f"not tested: {path}\n" for path in sorted(untested))
    return 1 if stale or untested or any(result.outcome == "survived" for result in results) else 0


def _sample(mutants: list[Mutant], number: int | None, seed: int) -> list[Mutant]:
    """Choose so many of each file at most, in an order that takes the files in turn."""
    turns: list[tuple[int, Mutant]] = []
    for path in dict.fromkeys(mutant.path for mutant in mutants):
        of_file = [mutant for mutant in mutants if mutant.path == path]
        # Each file has its own order, so that a larger sample holds a smaller one.
        random.Random(f"{seed} {path}").shuffle(of_file)
        turns += enumerate(of_file[:number])
    return [mutant for _, mutant in sorted(turns, key=lambda turn: turn[0])]


def _survivors(mutants: list[Mutant], path: Path) -> list[Mutant]:
    last = json.loads(path.read_text())
    keys = {(x["file"], x["before"], x["after"]) for x in last if x["outcome"] == "survived"}
    return [mutant for mutant in mutants if allowed.key_of(mutant) in keys]


if __name__ == "__main__":
    sys.exit(main())
