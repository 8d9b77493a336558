from __future__ import annotations

import pytest

from imports import SOURCES, write


@pytest.fixture
def app(make_app):
    return make_app(segment_sources=SOURCES)


@pytest.fixture
def file(tmp_path):
    """Forty lines, each eighth of them bad."""
    path = tmp_path / "events.ndjson"
    write(path, 40)
    return path
