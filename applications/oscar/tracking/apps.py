"""The tracking as an application of Django."""

from django.apps import AppConfig


class TrackingConfig(AppConfig):
    """Connects the receivers."""

    name = "tracking"

    def ready(self) -> None:
        """Connect the receivers."""
        from tracking import receivers  # noqa: F401 - its import connects them
