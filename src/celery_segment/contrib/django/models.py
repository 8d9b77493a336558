"""What the permissions of the panel are about. No table belongs to it, and no migration.

It is a model because Django's admin and its permissions are about models. Without the admin there
is none.
"""

from __future__ import annotations

from django.apps import apps
from django.db import models

if apps.is_installed("django.contrib.admin"):

    class _NoRows(models.Manager):
        """A manager that asks the database for nothing: ``dumpdata`` reads every model."""

        def get_queryset(self) -> models.QuerySet:
            return super().get_queryset().none()

    class Panel(models.Model):
        """The panel of one source, or of all, as permissions and the admin's log name it."""

        name = models.CharField(max_length=200, primary_key=True)

        objects = _NoRows()

        class Meta:
            """It has permissions, and nothing in the database."""

            managed = False
            default_permissions = ("view", "change")
            base_manager_name = "objects"
            verbose_name = verbose_name_plural = "panel"

        def __str__(self) -> str:
            return str(self.name)
