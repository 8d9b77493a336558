from __future__ import annotations

import pytest

from operating import SOURCES


@pytest.fixture
def app(make_app):
    return make_app(segment_sources=SOURCES)
