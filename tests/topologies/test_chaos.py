"""A minute of chaos with each kind of servers; ``make chaos TOPOLOGY=cluster`` runs longer."""

from __future__ import annotations

import pytest

from chaos.__main__ import run
from chaos.topologies import TOPOLOGIES
from support import Absent

#: Decides on the faults and their order.
SEED = 15


@pytest.mark.parametrize("name", ["redis6", "redis7", "sentinel", "cluster", "rabbitmq"])
def test_nothing_accepted_is_lost(tmp_path, name):
    try:
        ledger = run(60, SEED, tmp_path, name)
    except Absent as absent:
        pytest.skip(str(absent))
    assert ledger.ok, ledger.as_markdown()
    assert ledger.kinds >= {*TOPOLOGIES[name].own}, ledger.as_markdown()
    assert len(ledger.books.accepted) > 5_000
    assert len(ledger.tasks.published) > 300
