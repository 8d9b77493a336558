"""For Django: ``INSTALLED_APPS``, a middleware and system checks. See docs/django.md."""
