"""Passwords of the settings are not shown where Celery shows an application's configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support import DEFAULTS, TESTS, WRITE_KEY

PASSWORD = "p4ssw0rd"
PROXY = f"http://user:{PASSWORD}@proxy:3128"


def celery(app, *arguments, environ=(), **conf):
    """Run one of Celery's own commands, in a process of its own; return what it prints."""
    environ = {
        **os.environ,
        "TESTS_CONF": json.dumps({**DEFAULTS, "broker_url": app.conf.broker_url, **conf}),
        "PYTHONPATH": str(TESTS),
        **dict(environ),
    }
    command = [sys.executable, "-m", "celery", "-A", "workerapp", *arguments]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


@pytest.fixture
def secrets(redis_server, redis):
    """Settings with passwords, and the user of Redis whose password it is."""
    redis.acl_setuser("segment", True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"])
    url = f"redis://segment:{PASSWORD}@{redis_server.url.partition('://')[2]}"
    yield {
        "segment_redis_url": f"{url}?client_name={PASSWORD}",
        "segment_proxies": {"ftp": PROXY},
        "segment_sources": {"m": {"write_key": PASSWORD, "proxies": {"ftp": PROXY}}},
        "segment_context": {"traits": PASSWORD},
    }
    redis.acl_deluser("segment")


def test_what_stands_in_the_configuration(app, workers, secrets):
    worker = workers.start(app, **secrets)
    shown = {
        "inspect": celery(app, "inspect", "conf", "--json", "-d", worker.name),
        "report": celery(app, "report", **secrets),
    }
    for place, text in shown.items():
        assert "segment_redis_url" in text, text
        assert "segment_proxies" in text, place
        for secret in (PASSWORD, WRITE_KEY):
            assert secret not in text, f"{place}: {text}"
    # What is not secret is still shown.
    conf = json.loads(shown["inspect"])[worker.name]
    assert conf["segment_redis_url"].startswith("redis://********@127.0.0.1:")
    assert conf["segment_proxies"] == {"ftp": "http://********@proxy:3128"}
    assert conf["broker_connection_retry_on_startup"] is True


def test_what_stands_in_the_environment(app, redis, workers, secrets):
    environ = {
        "SEGMENT_WRITE_KEY": WRITE_KEY,
        "SEGMENT_REDIS_URL": secrets["segment_redis_url"],
        "SEGMENT_PROXIES": json.dumps(secrets["segment_proxies"]),
    }
    worker = workers.start(app, environ=environ)
    shown = celery(app, "inspect", "conf", "-d", worker.name) + celery(
        app, "report", environ=environ
    )
    assert "segment_redis_url" not in shown
    for secret in (PASSWORD, *environ):
        assert secret not in shown
    # It is what the worker uses.
    names = {client["user"] for client in redis.client_list()}
    assert "segment" in names
