"""The worked example at the top of the repository is a configuration that works."""

import importlib.util
from pathlib import Path

import pytest
from celery import Celery
from celery.app import defaults as celery

from celery_segment.config import WriteKey
from celery_segment.runtime import runtime_of

PATH = Path(__file__).parents[2] / "celeryconfig.py"
URL = "redis://:passw0rd@redis.example.com:6380/2"
#: What docker-compose.yml gives its workers.
STAND_IN = "http://segment:8765"
VARIABLES = [
    *("REDIS_URL", "SEGMENT_WRITE_KEY", "SEGMENT_MARKETING_WRITE_KEY"),
    *("SEGMENT_HOST", "SEGMENT_STAND_IN"),
]


def example():
    spec = importlib.util.spec_from_file_location("celeryconfig", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def configured(monkeypatch):
    """Make an application that is configured by the example, in the environment given."""
    apps = []
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)

    def make(**environ):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        app = Celery("example", set_as_current=False)
        apps.append(app)
        app.config_from_object(example())
        return app

    yield make
    for app in apps:
        app.close()


def test_a_workers_environment_gives_redis_and_the_write_keys(configured):
    app = configured(
        REDIS_URL=URL, SEGMENT_WRITE_KEY="default-key", SEGMENT_MARKETING_WRITE_KEY="other-key"
    )
    settings = runtime_of(app).settings
    assert settings.redis_url == app.conf.broker_url == URL
    assert settings.source("default").write_key == WriteKey("default-key")
    assert settings.source("default").flush_at == 20
    assert settings.source("marketing").write_key == WriteKey("other-key")
    assert settings.source("marketing").flush_at == 100
    assert {source.host for source in settings.sources.values()} == {"https://api.segment.io"}


def test_a_web_processs_empty_environment_will_do(configured):
    settings = runtime_of(configured()).settings
    assert settings.redis_url == "redis://localhost:6379/0"
    assert {source.write_key for source in settings.sources.values()} == {None}


def test_the_environment_may_name_a_regional_endpoint(configured):
    europe = "https://events.eu1.segmentapis.com"
    hosts = runtime_of(configured(SEGMENT_WRITE_KEY="k", SEGMENT_HOST=europe)).settings.sources
    assert {source.host for source in hosts.values()} == {europe}
    hosts = runtime_of(configured(SEGMENT_WRITE_KEY="k", SEGMENT_HOST="")).settings.sources
    assert {source.host for source in hosts.values()} == {"https://api.segment.io"}


@pytest.mark.parametrize("environ", [{}, {"SEGMENT_WRITE_KEY": ""}])
def test_without_a_write_key_the_stand_in_takes_segments_place(configured, environ):
    source = runtime_of(configured(**environ, SEGMENT_STAND_IN=STAND_IN)).settings.source("default")
    assert source.host == STAND_IN
    assert source.write_key == WriteKey("stand-in")


def test_with_a_write_key_events_go_to_segment(configured):
    given = {"SEGMENT_WRITE_KEY": "k", "SEGMENT_STAND_IN": STAND_IN, "SEGMENT_HOST": ""}
    settings = runtime_of(configured(**given)).settings
    assert {source.host for source in settings.sources.values()} == {"https://api.segment.io"}
    assert settings.source("default").write_key == WriteKey("k")
    assert settings.source("marketing").write_key is None
    assert not settings.source("default").allow_http


def test_celery_reads_its_own_settings_and_imports_the_tasks(configured):
    app = configured()
    assert "celery_segment" in app.conf.imports
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.worker_soft_shutdown_timeout == 20.0
    assert app.conf.broker_connection_retry_on_startup is True
    app.loader.import_default_modules()
    assert {"segment.track", "segment.drain", "segment.deliver"} <= set(app.tasks)


def test_a_report_of_the_configuration_shows_no_secret(configured):
    app = configured(
        REDIS_URL=URL, SEGMENT_WRITE_KEY="default-key", SEGMENT_MARKETING_WRITE_KEY="other-key"
    )
    shown = app.conf.humanize(with_defaults=False)
    assert "marketing" in shown
    for secret in ("default-key", "other-key", "passw0rd"):
        assert secret not in shown


def test_every_other_setting_is_celerys():
    given = {name for name in vars(example()) if name.islower() and name[0] != "_"} - {"os"}
    assert {name for name in given if not name.startswith("segment_")} <= set(celery.DEFAULTS)
