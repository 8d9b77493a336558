import json
import os

SECRET_KEY = "of the tests"
ROOT_URLCONF = "shop.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "celery_segment.contrib.django",
    "shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "celery_segment.contrib.django.middleware.SegmentMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
STATIC_URL = "static/"
CELERY_SEGMENT_WRITE_KEY = "a-key"
CELERY_BROKER_URL = os.environ["BROKER"]
# What differs from run to run.
globals().update(json.loads(os.environ.get("MORE_SETTINGS", "{}")))
