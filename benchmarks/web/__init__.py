"""A Django project whose view tracks an event, or not. DJANGO_SETTINGS_MODULE has to be set."""

from __future__ import annotations
