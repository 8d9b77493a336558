"""A browser's window on one site, which sees what a visitor does not: errors, requests, faults."""

from __future__ import annotations

import math
from contextlib import contextmanager
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe

#: A phone's, a laptop's and a large screen's.
WIDTHS = (360, 1280, 1600)
SCHEMES = ("light", "dark")
#: What axe-core finds that hinders a visitor.
GRAVE = {"serious", "critical"}
#: Beyond this the pictures weigh on the repository.
LARGEST = 250_000

_TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.querySelectorAll("body *")].filter(
    (e) => e.getBoundingClientRect().right > width + 1);
  return wide.map((e) => e.outerHTML.slice(0, 120)).concat("the page");
}"""


class Window:
    """A window; `page` is Playwright's.

    Args:
        browser: The browser.
        root: The address of the site. Nothing may be asked of another.
        width: The window's width.
        within: What of the pages is the site's own, as a selector.
    """

    def __init__(self, browser, root, width, within=".segment"):
        self._root, self._within = root, within
        self.width = width
        self._context = browser.new_context(
            viewport={"width": width, "height": 800}, locale="en-GB", timezone_id="UTC"
        )
        self.page = self._context.new_page()
        #: What the browser complained of.
        self.complaints = []
        #: What the visitor was asked, and agreed to.
        self.asked = []
        self._hosts = set()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._agree)
        self._context.on("request", lambda request: self._hosts.add(urlsplit(request.url).netloc))

    def _hear(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _agree(self, dialog):
        self.asked.append(dialog.message)
        dialog.accept()

    def go(self, path=""):
        """Open a page below the root."""
        assert self.page.goto(f"{self._root}{path}").ok

    def click(self, target):
        """Follow a link, or send a form."""
        found = self.page.locator(target) if isinstance(target, str) else target
        with self.page.expect_navigation():
            found.click()

    def look(self):
        """Check that the page that is shown fits, and is for everybody, light and dark."""
        for scheme in SCHEMES:
            with self.shown(scheme):
                assert self.page.evaluate(_TOO_WIDE) == []
                assert self._faults() == []

    def _faults(self):
        found = Axe().run(self.page, context=self._within).response["violations"]
        return [
            (fault["id"], node["html"], node["failureSummary"])
            for fault in found
            if fault["impact"] in GRAVE
            for node in fault["nodes"]
        ]

    @contextmanager
    def shown(self, scheme):
        """Have the page be light or dark."""
        self.page.emulate_media(color_scheme=scheme)
        # Colours may change by and by; a part that is renewed meanwhile does not.
        self.page.evaluate("Promise.allSettled(document.getAnimations().map((a) => a.finished))")
        yield
        self.page.emulate_media(color_scheme="light")

    def keep(self, folder, name):
        """Take pictures of the page, light and dark, as far down as there is something."""
        bottom = self.page.evaluate(
            "Math.max(...[...document.querySelectorAll('.segment :not(main)')]"
            ".map((e) => e.getBoundingClientRect().bottom + scrollY))"
        )
        clip = {"x": 0, "y": 0, "width": self.width, "height": math.ceil(bottom) + 24}
        for scheme in SCHEMES:
            path = folder / f"{name}-{scheme}.png"
            with self.shown(scheme):
                self.page.screenshot(path=path, full_page=True, clip=clip)
            assert path.stat().st_size < LARGEST, path.name

    def post(self, path, **fields):
        """Send a form that no page of Django's has, with its proof that it is from one."""
        cookies = {cookie["name"]: cookie["value"] for cookie in self._context.cookies()}
        form = {"csrfmiddlewaretoken": cookies["csrftoken"], **fields}
        return self.page.request.post(f"{self._root}{path}", form=form)

    def close(self):
        """Check what cannot be seen."""
        self._context.close()
        assert self.complaints == []
        assert self._hosts <= {urlsplit(self._root).netloc}
