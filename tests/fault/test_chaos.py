"""A short chaos on a fixed seed; ``make chaos`` runs a long one."""

from __future__ import annotations

from pathlib import Path

from chaos.__main__ import run
from chaos.topologies import STANDALONE

GUARANTEES = Path(__file__).parents[2] / "docs" / "explanation" / "guarantees.md"


def test_chaos_loses_nothing(tmp_path):
    ledger = run(seconds=40, seed=20261343, folder=tmp_path)
    report = ledger.as_markdown()
    assert not ledger.lost, report
    assert not ledger.unknown, report
    assert ledger.conserved, report
    assert ledger.violations == [], report
    assert ledger.strays == [], report
    assert ledger.unexplained == [], report
    assert ledger.slow == [], report
    assert not any(ledger.problems.values()), report
    assert ledger.ok, report
    assert any(outage.started for outage in ledger.tasks.outages), report
    assert len(ledger.kinds) >= 10
    assert len(ledger.books.accepted) > 2_000
    assert len(ledger.tasks.published) > 200


def test_the_page_counts_the_kinds_of_fault():
    assert f"are {len(STANDALONE.faults)} kinds of fault" in GUARANTEES.read_text()
