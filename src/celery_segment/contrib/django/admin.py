"""The operator's panel as a part of Django's admin; see docs/how-to/django.md.

Django imports this where its admin is installed. Without the extra ``web`` there is no panel.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, re_path, reverse

if TYPE_CHECKING:
    from celery_segment.web.site import Site

__all__ = ["PanelAdmin"]

#: What the extra ``web`` installs, as far as the panel needs it here.
_NEEDED = ("jinja2", "werkzeug")


class PanelAdmin(admin.ModelAdmin):
    """The panel: all its pages are below that of the model ``Panel``.

    Whoever has the permission ``celery_segment.view_panel`` may read, and with
    ``celery_segment.change_panel`` change things. Each action is logged in the admin's log.
    """

    #: The pages, and the Celery application that they show.
    _shown: tuple[Any, Site] | None = None

    def site(self) -> Site:
        """Return the pages: those of the current Celery application, unless overridden."""
        from celery.app import app_or_default

        from celery_segment.web.panel import panel_site

        app = app_or_default()
        if self._shown is None or self._shown[0] is not app:
            self._shown = app, panel_site(app)
        return self._shown[1]

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses: that of the pages, and those by which the admin links to them."""
        wrap, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", wrap(self._answer), name=f"{name}_changelist"),
            path("change/<path:object_id>/", wrap(self._redirect), name=f"{name}_change"),
            # Else the browser would ask for the style sheet again with each page.
            re_path(r"^(?P<rest>assets/.+)$", wrap(self._answer, cacheable=True)),
            re_path(r"^(?P<rest>.+)$", wrap(self._answer)),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - as Django calls it
        """Return False: there is nothing to add."""
        return False

    def has_delete_permission(
        self,
        request: HttpRequest,  # noqa: ARG002 - as Django calls it
        obj: Any = None,  # noqa: ARG002 - likewise
    ) -> bool:
        """Return False: there is nothing to delete."""
        return False

    def root(self) -> str:
        """Return the address of the panel in this admin, with a slash at its end."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return str(reverse(name))

    def _answer(self, request: HttpRequest, rest: str = "") -> HttpResponseBase:
        # Here, since a web process whose panel nobody visits is to load nothing for it.
        from celery_segment.contrib.django.panel import answer

        if not self.has_view_permission(request):
            raise PermissionDenied
        return answer(self, request, rest)

    def _redirect(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        from celery_segment.contrib.django.panel import redirect_to_source

        return redirect_to_source(self, request, object_id)


if all(map(find_spec, _NEEDED)):
    admin.site.register(apps.get_model("celery_segment", "Panel"), PanelAdmin)
