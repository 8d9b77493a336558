"""System checks, which find errors in the configuration before a call is made.

The check of Redis runs only with ``manage.py check --deploy``.
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
    """Check the Celery application and its settings."""
    app = _application()
    if app is None:
        return [
            checks.Error(
                "There is no Celery application.",
                hint="Create one in the project's celery.py, with config_from_object("
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
        return [*_unread_settings(app), _error(error, "celery_segment.E002")]
    return [*_unread_settings(app)]


def _error(error: SegmentError, number: str) -> checks.CheckMessage:
    return checks.Error(error.problem, hint=error.hint or None, id=number)


def _application() -> Any:
    """Return the current Celery application, without creating one as ``current_app`` would."""
    app = _state._tls.current_app or _state.default_app  # noqa: SLF001 - see above
    is_fallback = app is not None and app.main == "default" and not app.set_as_current
    return None if is_fallback else app


def _unread_settings(app: Any) -> Iterator[checks.CheckMessage]:
    given = [name for name in dir(django_settings) if name.startswith(PREFIX)]
    app.conf.finalize()
    unread = [n for n in given if n.removeprefix("CELERY_").lower() not in app.conf]
    if unread:
        yield checks.Error(
            f"The current Celery application, {app.main!r}, has not read {', '.join(unread)}.",
            hint="Call its config_from_object('django.conf:settings', namespace='CELERY'). If"
            " another application should be the current one, call set_default() on that one.",
            id="celery_segment.E003",
        )


@checks.register("celery_segment")
def middleware(**_: Any) -> list[checks.CheckMessage]:
    """Check that the middleware is installed, after AuthenticationMiddleware."""
    chain = list(django_settings.MIDDLEWARE)
    ours = [place for place, path in enumerate(chain) if _is_ours(path)]
    if not ours:
        return [
            checks.Warning(
                "Calls made in a view get no context and no visitor from its request.",
                hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE, after AuthenticationMiddleware.",
                id="celery_segment.W001",
            )
        ]
    if AUTHENTICATION in chain[ours[0] :]:
        return [
            checks.Warning(
                f"{chain[ours[0]]} comes before AuthenticationMiddleware: calls made by"
                " middlewares between the two get no user.",
                hint="Move it after AuthenticationMiddleware in MIDDLEWARE.",
                id="celery_segment.W002",
            )
        ]
    return []


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:  # Django itself reports it, with more detail
        return False
    return isinstance(found, type) and issubclass(found, SegmentMiddleware)


@checks.register("celery_segment", deploy=True)
def buffer(**_: Any) -> list[checks.CheckMessage]:
    """Check that the Redis of the buffer is reachable and stores messages durably."""
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
