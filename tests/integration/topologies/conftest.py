"""Sentinels and a cluster, which the tests of a module share."""

from __future__ import annotations

import pytest

from topologies import Cluster, Sentinels


@pytest.fixture(scope="module")
def sentinels():
    with Sentinels() as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster():
    with Cluster(primaries=3, replicas=1) as servers:
        yield servers
