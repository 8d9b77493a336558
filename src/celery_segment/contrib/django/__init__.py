"""Django app with a middleware and system checks; see docs/how-to/django.md."""
