"""One job: a copy of the project in which one file at a time is changed and tested.

    python -m mutation.job

It reads orders from standard input, one JSON object a line, and answers each with one. It runs in
the copy, with the copy's Python, so that the processes which tests start import the changed file
too. Each run of the tests is a fork of this process, which has imported what never changes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from importlib import import_module
from itertools import count
from pathlib import Path

ROOT = Path.cwd()
LIBRARY = ROOT / "src" / "celery_segment"
OUTPUT = ROOT / "output.txt"
OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "--tb=short"]
# Of hypothesis, which is imported before pytest can rewrite its assertions.
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
#: What takes long to import, and is never changed.
IMPORTED = ("celery.app.amqp", "celery.backends.redis", "django", "hypothesis.stateful")
IMPORTED += ("kombu.transport.redis", "numpy", "requests", "trustme")
PR_SET_CHILD_SUBREAPER = 36
#: Times of changed files, seconds since 1970: a new one makes Python compile the file again.
TIMES = count(1_000_000_000)


def main() -> None:
    # What a killed run leaves behind, such as a redis-server, becomes a child of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        path, began = LIBRARY / order["path"], time.monotonic()
        _write(path, order["changed"])
        os.environ["SEGMENT_TEST_EXAMPLES"] = str(order["examples"])
        outcome = _test(order["tests"], order["timeout"])
        _write(path, order["original"])
        output = OUTPUT.read_text(errors="replace")
        failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        answer = {
            "outcome": outcome,
            "seconds": round(time.monotonic() - began, 1),
            "failed": failed[0] if failed else "",
            "output": output[-3000:],
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    changed = next(TIMES)
    os.utime(path, (changed, changed))


def _test(tests: list[str], timeout: float) -> str:
    """Run tests; return whether the change survived, was killed, or ran into the time limit."""
    child = os.fork()
    if child == 0:
        os._exit(_run(tests))
    deadline, ended, status = time.monotonic() + timeout, 0, 0
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _end_children()
    if not ended:
        return "timeout"
    return "survived" if status == 0 else "killed"


def _run(tests: list[str]) -> int:
    import pytest  # here, since it rewrites the assertions of plugins when it is imported

    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in enumerate((nothing, output, output)):
        os.dup2(target, number)
    code = int(pytest.main([*OPTIONS, *tests]))
    sys.stdout.flush()
    return code


def _end_children() -> None:
    """Kill every process that is left of a run."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while left := children.read_text().split():
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)
            os.waitpid(int(pid), 0)


if __name__ == "__main__":
    main()
