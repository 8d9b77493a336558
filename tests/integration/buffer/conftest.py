from __future__ import annotations

import pytest

from batches import assert_conserved
from support import buffer_of


@pytest.fixture
def make_buffer(make_app, redis):
    def make(**conf):
        buffer = buffer_of(make_app(segment_timeout=0.5, segment_lease=60, **conf))
        made.append(buffer)
        return buffer

    made = []
    yield make
    for buffer in made:
        assert_conserved(redis, buffer)


@pytest.fixture
def buffer(make_buffer):
    return make_buffer()
