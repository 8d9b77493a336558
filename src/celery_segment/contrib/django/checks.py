"""System checks: what ``manage.py check`` finds before the first call does.

Those that ask Redis run with ``check --deploy`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import _state
from django.conf import settings as django_settings
from django.core import checks
from django.utils.module_loading import import_string

from celery_segment.contrib.django.middleware import SegmentMiddleware
from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.runtime import runtime_of

__all__ = ["buffer", "configuration", "middleware"]

MIDDLEWARE = f"{SegmentMiddleware.__module__}.{SegmentMiddleware.__name__}"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
PREFIX = "CELERY_SEGMENT_"


@checks.register("celery_segment")
def configuration(**_: Any) -> list[checks.CheckMessage]:
    """Look at the Celery application and the settings it has."""
    app = _application()
    if app is None:
        return [
            checks.Error(
                "There is no Celery application.",
                hint="Make one in the project's celery.py, with config_from_object("
                "'django.conf:settings', namespace='CELERY'), and import it in the project's"
                " __init__.py.",
                id="celery_segment.E001",
            )
        ]
    try:
        runtime = runtime_of(app)
        for source in runtime.settings.enabled:
            runtime.producer(source.name)
    except ConfigurationError as error:
        return [*_unseen(app), _error(error, "celery_segment.E002")]
    return [*_unseen(app)]


def _error(error: SegmentError, number: str) -> checks.CheckMessage:
    return checks.Error(error.problem, hint=error.hint or None, id=number)


def _application() -> Any:
    """Return the current Celery application, and make none, as ``current_app`` would."""
    app = _state._tls.current_app or _state.default_app  # noqa: SLF001 - see above
    made_for_want_of_one = app is not None and app.main == "default" and not app.set_as_current
    return None if made_for_want_of_one else app


def _unseen(app: Any) -> Iterator[checks.CheckMessage]:
    given = [name for name in dir(django_settings) if name.startswith(PREFIX)]
    app.conf.finalize()
    unseen = [n for n in given if n.removeprefix("CELERY_").lower() not in app.conf]
    if unseen:
        yield checks.Error(
            f"The current Celery application, {app.main!r}, has not read {', '.join(unseen)}.",
            hint="Give it config_from_object('django.conf:settings', namespace='CELERY'); if it"
            " is not the one that is meant, call set_default() of that one.",
            id="celery_segment.E003",
        )


@checks.register("celery_segment")
def middleware(**_: Any) -> list[checks.CheckMessage]:
    """Look for the middleware, and at its place."""
    chain = list(django_settings.MIDDLEWARE)
    ours = [place for place, path in enumerate(chain) if _is_ours(path)]
    if not ours:
        return [
            checks.Warning(
                "The calls of a view know nothing of its request.",
                hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE, after AuthenticationMiddleware.",
                id="celery_segment.W001",
            )
        ]
    if AUTHENTICATION in chain[ours[0] :]:
        return [
            checks.Warning(
                f"{chain[ours[0]]} stands before AuthenticationMiddleware: calls of the"
                " middlewares between the two know no user.",
                hint="Put it behind AuthenticationMiddleware in MIDDLEWARE.",
                id="celery_segment.W002",
            )
        ]
    return []


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:  # which Django tells better
        return False
    return isinstance(found, type) and issubclass(found, SegmentMiddleware)


@checks.register("celery_segment", deploy=True)
def buffer(**_: Any) -> list[checks.CheckMessage]:
    """Ask the Redis of the buffer what a stored message is worth there."""
    from celery_segment.operations.health import check_redis

    app = _application()
    if app is None or configuration():
        return []
    settings = runtime_of(app).settings
    if not settings.enabled:
        return []
    try:
        findings = list(check_redis(settings))
    except SegmentError as error:
        return [_error(error, "celery_segment.E004")]
    kinds = {"warn": (checks.Warning, "W003"), "fail": (checks.Error, "E005")}
    return [
        kind(f"Redis, {f.check}: {f.found}.", hint=f"{f.hint}.", id=f"celery_segment.{number}")
        for f in findings
        if f.state != "ok"
        for kind, number in (kinds[f.state],)
    ]
