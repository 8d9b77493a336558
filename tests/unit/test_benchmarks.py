"""The benchmark's modules can be imported: it runs too long to be part of the tests."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Drawn by matplotlib, which is in the group of the benchmark alone.
PICTURE = "benchmarks.report"


def modules():
    found = pkgutil.walk_packages([str(ROOT / "benchmarks")], "benchmarks.")
    return sorted({module.name for module in found} - {PICTURE, "benchmarks.__main__"})


@pytest.mark.parametrize("name", modules())
def test_it_can_be_imported(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    for variable in ("SEGMENT_BENCH_REDIS", "SEGMENT_BENCH_HOST"):
        monkeypatch.setenv(variable, "redis://localhost:1/0")
    assert importlib.import_module(name).__doc__
