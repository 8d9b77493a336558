"""Pages of the tests' own in a second admin."""

import threading

from django.apps import apps
from django.contrib.admin import AdminSite
from werkzeug.wrappers import Response

from celery_segment.contrib.django.admin import PanelAdmin
from celery_segment.errors import BufferUnavailable
from celery_segment.web.site import Route, Site
from celery_segment.web.visit import Done, Page

#: What was changed, as values of the forms' field `what`.
DONE = []
#: Held by a test, a stream waits before its second part.
HOLD = threading.Lock()
CLOSED = threading.Event()


def page(title, text):
    return Page("error.html", title, {"text": text, "is_away": False})


def show(visit):
    what = visit.argument("what") or "nothing"
    return page(f"Shown {what}", f"{visit.request.base_url} {what}")


def show_source(visit, name):
    return page(name, visit.url("act", name=name))


def act(visit, name):
    what = visit.argument("what")
    if what == "away":
        raise BufferUnavailable("Redis is away")
    if what == "look":
        return show(visit)
    DONE.append((name, what))
    return Done(f"did {what}", visit.url("show"), name, failed=what == "fail")


def download(visit):
    def parts():
        try:
            yield "first\n"
            with HOLD:
                yield "second\n"
        finally:
            CLOSED.set()

    headers = {"Content-Disposition": "attachment; filename=parts.txt"}
    return Response(parts(), mimetype="text/plain", headers=headers)


SITE = Site(
    "Other",
    [
        Route("/", "show", show),
        Route("/sources/<name>", "source", show_source),
        Route("/sources/<name>/act", "act", act, changes=True),
        Route("/download", "download", download),
    ],
)


class OtherAdmin(PanelAdmin):
    def site(self):
        return SITE


other_admin = AdminSite("other")
other_admin.register(apps.get_model("celery_segment", "Panel"), OtherAdmin)
