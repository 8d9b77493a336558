"""A visitor's browser without JavaScript: it follows links and sends the forms of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urljoin

import requests


class Form(dict):
    """A form's fields with the values that the page has filled in."""

    def __init__(self, attributes):
        super().__init__()
        self.action = attributes.get("action", "")
        self.method = attributes.get("method", "get").lower()


class _Forms(HTMLParser):
    """The forms of a page, in their order."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self._is_inside = False
        self._select = None
        self.feed(text)

    def handle_starttag(self, tag, pairs):
        attributes = {name: value or "" for name, value in pairs}
        if tag == "form":
            self.found.append(Form(attributes))
            self._is_inside = True
        elif not self._is_inside:
            return
        elif tag == "select":
            self._select = attributes["name"]
        elif tag == "option" and ("selected" in attributes or self._select not in self.found[-1]):
            self.found[-1][self._select] = attributes.get("value", "")
        elif "name" in attributes and _is_sent(tag, attributes):
            self.found[-1][attributes["name"]] = attributes.get("value", "")

    def handle_endtag(self, tag):
        self._is_inside = self._is_inside and tag != "form"


def _is_sent(tag, attributes):
    """Return whether a field is sent as the page has filled it in: no box is ticked."""
    is_ticked = attributes.get("type") in ("checkbox", "radio", "submit")
    return tag in ("input", "textarea") and not is_ticked


class Browser:
    """A session of requests that looks at one page after the other."""

    def __init__(self, url: str, agent: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"user-agent": agent, "accept-language": "en-GB,en;q=0.8"})
        self.page = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    @property
    def cookies(self):
        return self._session.cookies

    def open(self, path: str) -> None:
        """Look at a page, which is linked from the present one."""
        headers = {"referer": self.page.url} if self.page else {}
        self._see(self._session.get(urljoin(self._url, path), headers=headers, timeout=60))

    def follow(self, text: str) -> None:
        """Follow the link whose address contains a text."""
        self.open(next(link for link in _links(self.page.text) if text in link))

    def send(self, having: str, **fields: str) -> None:
        """Fill in and send the page's form that has a field or whose action contains a text."""
        form = next(
            form for form in _Forms(self.page.text).found if having in form or having in form.action
        )
        target = urljoin(self.page.url, form.action)
        values, headers = {**form, **fields}, {"referer": self.page.url}
        kind = {"params": values} if form.method == "get" else {"data": values}
        self._see(self._session.request(form.method, target, headers=headers, timeout=60, **kind))

    def _see(self, page):
        page.raise_for_status()
        self.page = page


def _links(text):
    parser = _Links()
    parser.feed(text)
    return parser.found


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, pairs):
        if tag == "a" and (address := dict(pairs).get("href")):
            self.found.append(address)
