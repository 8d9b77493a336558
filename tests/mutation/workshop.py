"""Copies of the project, each with a process that tests one change at a time in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from mutation.mutants import Mutant

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv", "build", "dist", ".hypothesis", ".*_cache", "*.egg-info")
)
#: The state machine takes the same steps each time, and does not look for the shortest failure:
#: one is enough.
_SETTINGS = {"CI": "1", "SEGMENT_TEST_SHRINK": "0"}


class Job:
    """A copy of the project, and the process that changes and tests it."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT, folder, ignore=_LEFT_OUT, symlinks=True)
        python = _make_environment(folder / "environment", folder / "src")
        self._process = subprocess.Popen(
            [python, "-m", "mutation.job"],
            cwd=folder,
            env={**os.environ, **_SETTINGS, "PYTHONPATH": str(folder / "tests")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is not for the tests
        )

    def test(self, mutant: Mutant, tests: list[str], timeout: float, examples: int) -> dict:
        """Test a change; return the outcome, the seconds it took, and the tests' output.

        ``examples`` is how many runs the state machine makes.
        """
        order = {"tests": tests, "timeout": timeout, "examples": examples}
        order |= {"path": mutant.path, "original": mutant.original, "changed": mutant.changed}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a job ended: see its errors above")
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _make_environment(folder: Path, source: Path) -> Path:
    """Make an environment of this one's packages, which finds the library in a copy of it.

    The processes which tests start find it too, whatever PYTHONPATH they are given.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
    lines = [str(source), f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"]
    Path(packages, "mutated.pth").write_text("\n".join(lines) + "\n")
    for program in Path(sys.executable).parent.iterdir():
        if not program.name.startswith(("python", "activate", "Activate")):
            (folder / "bin" / program.name).symlink_to(program)
    return folder / "bin" / "python"
