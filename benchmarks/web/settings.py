"""The project's settings: those of a new project, as far as a view without templates needs them."""

from __future__ import annotations

import os

SECRET_KEY = "of the benchmark"  # noqa: S105 - nobody signs in
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "benchmarks.web.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "celery_segment.contrib.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SEGMENT_BENCH_DATABASE", ":memory:"),
        "CONN_MAX_AGE": None,
    }
}

CELERY_SEGMENT_REDIS_URL = os.environ["SEGMENT_BENCH_REDIS"]
CELERY_BROKER_URL = os.environ.get("SEGMENT_BENCH_BROKER") or CELERY_SEGMENT_REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_SEGMENT_HOST = os.environ["SEGMENT_BENCH_HOST"]
CELERY_SEGMENT_WRITE_KEY = "key"
