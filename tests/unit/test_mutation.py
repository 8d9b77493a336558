"""What `make mutate` relies on: its tests exist, the scripts are in its style, its list holds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from mutation import allowed, lua
from mutation.targets import TESTS, files_of, suite_of

LIBRARY = Path(find_spec("celery_segment").origin).parent
ROOT = Path(__file__).parents[2]
SCRIPTS = files_of(LIBRARY, ["buffer/lua"])


def mutants_of(script):
    return [*lua.mutants_of(script, (LIBRARY / script).read_text())]


def test_each_file_and_each_test_of_it_exists():
    assert [path for path in TESTS if not (LIBRARY / path).exists()] == []
    named = {test for tests in TESTS.values() for test in tests}
    assert [test for test in named if not (ROOT / test).is_file()] == []
    assert "buffer/pool.py" in files_of(LIBRARY, [])
    assert suite_of("buffer/lua/ack.lua") == TESTS["buffer/lua"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_mutator_knows_a_script(script):
    for mutant in mutants_of(script):
        assert mutant.before != mutant.after
        assert mutant.line > 1, "a comment is no code"


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("if a == 1 then\n", ["if a ~= 1 then", "if a == 2 then"]),
        ("if a then\n", ["if not (a) then"]),
        ("if not a then\n", ["if  a then"]),
        (
            "if a <\n    b or c then\n",
            [
                "if a <=\n    b or c then",
                "if a <\n    b and c then",
                "if not (a <\n    b or c) then",
            ],
        ),
        ("return -1\n", ["return 1", "return -2"]),
        ("x = a - 1\n", ["x = a + 1", "x = a - 2", ""]),
        ("local x = t[1]\n", []),
        ("local x = f(\n  g(a))\n", []),
        ("f(source,\n  g(a))\n", [""]),
        ("-- 1 == 1\nlocal s = '1 == 1'\n", []),
    ],
)
def test_a_place_is_changed_to_what_is_nearest(code, changed):
    assert [m.changed.rstrip("\n") for m in lua.mutants_of("x.lua", code)] == changed


def test_what_may_live_is_there_to_be_changed():
    reasons = allowed.read()
    assert all(reasons.values())
    for path, before, after in reasons:
        lines = [line.strip() for line in (LIBRARY / path).read_text().splitlines()]
        assert before in " ".join(lines), f"{path}: {before}"
        if path.endswith(".lua"):
            assert (path, before, after) in map(allowed.key_of, mutants_of(path))
