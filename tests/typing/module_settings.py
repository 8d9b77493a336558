"""A mistake that mypy and ty find: pyright checks no assignment to another module's name."""
# pyright: reportUnnecessaryTypeIgnoreComment=false

from __future__ import annotations

from celery_segment import analytics as drop_in


def mistakes_in_settings() -> None:
    drop_in.sync_mode = "yes"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
