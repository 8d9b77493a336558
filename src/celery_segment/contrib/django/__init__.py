"""For Django: ``INSTALLED_APPS``, a middleware and system checks. See docs/how-to/django.md."""
