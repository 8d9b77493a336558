from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave the machine's own configuration out."""
    for name in ("SEGMENT_WRITE_KEY", "CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.delenv(name, raising=False)
