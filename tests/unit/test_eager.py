"""Eager says what Celery's own configuration says, however it was configured."""

from __future__ import annotations

import pytest
from celery import Celery
from django.conf import LazySettings, UserSettingsHolder

from celery_segment.config import Eager


class Module:
    """A configuration that is an object, as celeryconfig.py and Django's settings are."""


def agree(app):
    assert bool(Eager(app)) == bool(app.conf.task_always_eager)
    return bool(Eager(app))


@pytest.mark.parametrize("value", [True, False])
def test_however_it_is_configured(value):
    plain, old, named, upper = Module(), Module(), Module(), Module()
    plain.task_always_eager = value
    old.CELERY_ALWAYS_EAGER = value
    named.celery_task_always_eager = value
    upper.CELERY_TASK_ALWAYS_EAGER = value
    for source, namespace in ((plain, None), (old, None), (named, "celery"), (upper, "CELERY")):
        app = Celery("a", set_as_current=False)
        app.config_from_object(source, namespace=namespace)
        assert agree(app) == value
    app = Celery("a", set_as_current=False)
    app.conf.update(task_always_eager=value)
    assert agree(app) == value
    app = Celery("a", set_as_current=False)
    app.add_defaults({"task_always_eager": value})
    assert agree(app) == value


def test_changes_count_at_once():
    settings = Module()
    settings.CELERY_TASK_ALWAYS_EAGER = True
    app = Celery("a", set_as_current=False)
    app.config_from_object(settings, namespace="CELERY")
    eager = Eager(app)
    assert eager
    settings.CELERY_TASK_ALWAYS_EAGER = False
    assert not eager
    app.conf.task_always_eager = True
    assert eager
    app.conf.task_always_eager = False
    assert not eager
    app.config_from_object({"task_always_eager": True}, force=True)
    assert bool(eager) == app.conf.task_always_eager


def test_by_default_it_is_not():
    eager = Eager(Celery("a", set_as_current=False))
    assert not eager


def test_djangos_settings_and_what_a_test_overrides_in_them():
    settings = LazySettings()
    settings.configure(CELERY_BROKER_URL="redis://localhost:1/0")
    app = Celery("a", set_as_current=False)
    app.config_from_object(settings, namespace="CELERY")
    eager = Eager(app)
    assert bool(eager) == app.conf.task_always_eager is False
    before = settings._wrapped
    for value in (True, False):  # as django.test.override_settings does
        settings._wrapped = UserSettingsHolder(before)
        settings._wrapped.CELERY_TASK_ALWAYS_EAGER = value
        assert bool(eager) == app.conf.task_always_eager == value
    settings._wrapped = before
    assert bool(eager) == app.conf.task_always_eager is False
    settings.CELERY_TASK_ALWAYS_EAGER = True  # as pytest-django's fixture does
    assert bool(eager) == app.conf.task_always_eager is True
    settings._wrapped = UserSettingsHolder(settings._wrapped)
    del settings.CELERY_TASK_ALWAYS_EAGER
    assert bool(eager) == app.conf.task_always_eager is False


class Computed:
    """A configuration whose settings are made as they are asked for."""

    def __getattr__(self, name):
        if name == "task_always_eager":
            return True
        raise AttributeError(name)


class Inherited(Module):
    task_always_eager = True


@pytest.mark.parametrize("source", [Computed(), Inherited, Inherited()])
def test_an_object_whose_settings_are_not_its_own(source):
    app = Celery("a", set_as_current=False)
    app.config_from_object(source)
    assert agree(app)
