"""The shop with celery-segment: what docs/how-to/django.md has a project add."""

import os

from shop.plain import *  # noqa: F403 - these are added to them
from shop.plain import FILES, INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "celery_segment.contrib.django", "tracking"]
MIDDLEWARE = [*MIDDLEWARE, "celery_segment.contrib.django.middleware.SegmentMiddleware"]
ROOT_URLCONF = "tracking.urls"

# SEGMENT_WRITE_KEY is set only in the environment of the worker.
CELERY_SEGMENT_HOST = os.environ.get("SEGMENT_HOST", "https://api.segment.io")
# The pages do not use analytics.js, which would set the visitors' ids.
CELERY_SEGMENT_SET_ANONYMOUS_ID = True
# No call makes a page fail.
CELERY_SEGMENT_ON_INVALID = "log"
CELERY_SEGMENT_ON_UNAVAILABLE = "spill"
CELERY_SEGMENT_SPILL_PATH = str(FILES / "segment.db")
CELERY_SEGMENT_ON_FULL = "drop"
