"""Settings in Django's namespace, and in a module."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_segment import ConfigurationError
from celery_segment.config import load
from configuring import SECRET


class DjangoSettings:
    CELERY_BROKER_URL = "redis://django/5"
    CELERY_SEGMENT_FLUSH_AT = 7
    CELERY_SEGMENT_SOURCES = {"marketing": {"write_key": SECRET}}  # noqa: RUF012 - as in Django
    # Another library's.
    SEGMENT_WRITE_KEY = "of analytics-python"
    SEGMENT_DEBUG = True


def django_application(**more):
    app = Celery("tests", set_as_current=False)
    app.config_from_object(type("DjangoSettings", (DjangoSettings,), more), namespace="CELERY")
    return app


def test_the_namespace_of_django():
    settings = load(django_application().conf, {})
    assert settings.redis_url == "redis://django/5"
    assert settings.source("default").flush_at == 7
    assert settings.source("marketing").write_key.reveal() == SECRET
    assert settings.source("default").write_key is None


def test_the_namespace_of_django_is_checked_too():
    with pytest.raises(ConfigurationError, match="segment_flush_att is not a setting"):
        load(django_application(CELERY_SEGMENT_FLUSH_ATT=1).conf, {})
    with pytest.raises(ConfigurationError, match="segment_flush_at must be at least 1, not 0"):
        load(django_application(CELERY_SEGMENT_FLUSH_AT=0).conf, {})


def test_what_is_set_on_the_application_itself_wins_over_the_namespace():
    app = django_application()
    app.conf.segment_flush_at = 9
    app.conf.segment_gzip = False
    assert load(app.conf, {}).source("default").flush_at == 9
    assert load(app.conf, {}).source("default").gzip is False


def test_a_module_is_a_configuration_too(tmp_path, monkeypatch):
    (tmp_path / "its_celeryconfig.py").write_text(
        "SEGMENT = 'a constant'\nbroker_url = 'redis://module/2'\nsegment_flush_at = 4\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("tests", set_as_current=False)
    app.config_from_object("its_celeryconfig")
    settings = load(app.conf, {})
    assert (settings.redis_url, settings.source("default").flush_at) == ("redis://module/2", 4)


def test_upper_case_in_a_plain_application_is_told_the_right_name(caplog):
    app = Celery("tests", set_as_current=False)
    app.conf.update(SEGMENT_WRITE_KEY=SECRET, SEGMENT_FLUSH_AT=5, SEGMENT_DEBUG=1)
    app.conf.segment_flush_at = 5
    assert load(app.conf, {}).misnamed == {"SEGMENT_WRITE_KEY": "segment_write_key"}
    (record,) = caplog.records
    assert record.getMessage() == (
        "SEGMENT_WRITE_KEY is ignored: the setting's name is segment_write_key"
    )


def test_bare_names_in_djangos_settings_are_told_the_right_ones(caplog):
    settings = load(django_application(SEGMENT_FLUSH_AT=5, SEGMENT_GZIP=False).conf, {})
    # The application has the first one in its own name as well.
    assert settings.misnamed == {
        "SEGMENT_GZIP": "CELERY_SEGMENT_GZIP",
        "SEGMENT_WRITE_KEY": "CELERY_SEGMENT_WRITE_KEY",
    }
    assert settings.source("default").gzip is True
    given = load(django_application().conf, {"SEGMENT_WRITE_KEY": SECRET})
    assert given.misnamed == {}  # the environment has it
    assert not caplog.records  # a system check says so
