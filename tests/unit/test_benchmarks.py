"""The benchmark's modules can be imported: it runs too long to be part of the tests."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import pytest
from celery import _state

ROOT = Path(__file__).parents[2]


def modules():
    found = pkgutil.walk_packages([str(ROOT / "benchmarks")], "benchmarks.")
    return sorted({module.name for module in found})


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    # A Celery application is the current one from its construction on.
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    for variable in ("SEGMENT_BENCH_REDIS", "SEGMENT_BENCH_HOST"):
        monkeypatch.setenv(variable, "redis://localhost:1/0")


@pytest.mark.parametrize("name", modules())
def test_it_can_be_imported(name):
    assert importlib.import_module(name).__doc__


def test_each_figure_is_measured():
    figures = {name.rpartition(".")[2] for name in modules() if ".figures." in name}
    assert set(importlib.import_module("benchmarks.__main__").FIGURES) == figures


def test_the_report_has_each_claim_and_row():
    report = importlib.import_module("benchmarks.report")
    kinds = importlib.import_module("benchmarks.figures")
    figure = kinds.Figure(
        "A figure",
        "",
        [kinds.Row("a row", [1.0, 2.0, 6.0])],
        [kinds.Claim("a ratio", 0.5, 0.75), kinds.Claim("a rate", 3.0, 15, at_least=True)],
        ["A note."],
    )
    lines = report.body([figure])
    assert "| A figure: a ratio | 0.5 | ≤ 0.75 | reached |" in lines
    assert "| A figure: a rate | 3 | ≥ 15 | **missed** |" in lines
    assert "| a row | 2.00 | 1.00 | 6.00 |" in lines
    assert "\nA note." in lines


def test_what_is_drawn_is_measured():
    report = importlib.import_module("benchmarks.report")
    figures = "".join(path.read_text() for path in (ROOT / "benchmarks/figures").glob("*.py"))
    assert all(f'"{title}"' in figures for title in report.DRAWN)
