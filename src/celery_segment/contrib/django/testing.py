"""What Django knows of tests: its test environment, and views that a test calls by itself."""

from __future__ import annotations

import sys

from django.http import HttpRequest

__all__ = ["is_testing", "is_view_alone"]


def is_testing() -> bool:
    """Return whether Django's test environment is set up: by its runner, or by pytest-django.

    Django says so nowhere else. An outbox of mails, for one, is there wherever mails are
    kept in memory, and an import of ``django.test`` would slow every web process down.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")  # noqa: SLF001 - see above


def is_view_alone() -> bool:
    """Return whether the running code handles a request: a caller has one among its variables.

    So it is where a test calls a view with a request of ``RequestFactory``.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - Python's documented way
    while frame is not None:
        # isinstance would evaluate lazy objects.
        if any(issubclass(type(value), HttpRequest) for value in frame.f_locals.values()):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
