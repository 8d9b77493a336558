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

from celery_segment.config import Settings
from celery_segment.contrib.django.middleware import SegmentMiddleware
from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.runtime import runtime_of

__all__ = ["buffer", "captured", "configuration", "middleware", "raising"]

MIDDLEWARE = f"{SegmentMiddleware.__module__}.{SegmentMiddleware.__name__}"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
PREFIX = "CELERY_SEGMENT_"
_MISNAMED = "W005"
#: The way out for a process that is to run without Celery.
_WITHOUT = "Where there is no Redis, set CELERY_SEGMENT_ENABLED = False: calls then store nothing"


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
    found, runtime = [*_unread_settings(app)], runtime_of(app)
    try:
        settings = runtime.settings
    except ConfigurationError as error:
        return [*found, _error(error, "celery_segment.E002")]
    found += _misnamed_settings(settings)
    try:
        for source in settings.enabled:
            runtime.producer(source.name)
    except ConfigurationError as error:
        found.append(_error(error, "celery_segment.E002", _WITHOUT))
    return found


def _error(error: SegmentError, number: str, more: str = "") -> checks.CheckMessage:
    hint = ". ".join(filter(None, (error.hint, more)))
    return checks.Error(error.problem, hint=hint or None, id=number)


def _misnamed_settings(settings: Settings) -> Iterator[checks.CheckMessage]:
    for name, right in settings.misnamed.items():
        yield checks.Warning(
            f"{name} is ignored: the setting of celery-segment is named {right}.",
            hint=f"Rename it. If it is another library's, add 'celery_segment.{_MISNAMED}' to"
            " SILENCED_SYSTEM_CHECKS.",
            id=f"celery_segment.{_MISNAMED}",
        )


@checks.register("celery_segment", deploy=True)
def raising(**_: Any) -> list[checks.CheckMessage]:
    """Check that no call can make a view fail."""
    app = _application()
    if app is None or any(found.is_serious() for found in configuration()):
        return []
    found = [
        f"{PREFIX}{name.upper()} of source {source.name!r}"
        for source in runtime_of(app).settings.enabled
        for name in ("on_invalid", "on_unavailable", "on_full")
        if getattr(source, name) == "raise"
    ]
    if not found:
        return []
    return [
        checks.Warning(
            f"A call may make a view fail: 'raise' is {', '.join(found)}.",
            hint="Set CELERY_SEGMENT_ON_INVALID to 'log', CELERY_SEGMENT_ON_UNAVAILABLE to 'spill'"
            " or 'drop', and CELERY_SEGMENT_ON_FULL to 'drop'; or silence this check where a view"
            " is to fail.",
            id="celery_segment.W004",
        )
    ]


@checks.register("celery_segment", deploy=True)
def captured(**_: Any) -> list[checks.CheckMessage]:
    """Check that calls are stored, and not captured as in tests."""
    from celery_segment.operations.findings import of_capture

    app = _application()
    if app is None or any(found.is_serious() for found in configuration()):
        return []
    if not runtime_of(app).loses_calls:
        return []
    finding = of_capture()
    return [checks.Error(f"{finding.found}.", hint=f"{finding.hint}.", id="celery_segment.E006")]


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
    if app is None or any(found.is_serious() for found in configuration()):
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
