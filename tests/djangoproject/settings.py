import json
import os

SECRET_KEY = "of the tests"
ALLOWED_HOSTS = ["shop.example", "127.0.0.1", "testserver"]
ROOT_URLCONF = "djangoproject.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "celery_segment.contrib.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "celery_segment.contrib.django.middleware.SegmentMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["SHOP_DATABASE"],
        "OPTIONS": {"timeout": 20},
    }
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CELERY_SEGMENT_WRITE_KEY = "a-key"
CELERY_SEGMENT_FLUSH_INTERVAL = 0.5
# What differs from run to run, such as CELERY_BROKER_URL.
globals().update(json.loads(os.environ["SHOP_SETTINGS"]))
