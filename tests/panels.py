"""Visit the operator's panel as a browser does: pages read, links followed, forms sent."""

from __future__ import annotations

from html.parser import HTMLParser

import requests
from werkzeug.datastructures import MultiDict
from werkzeug.test import Client

from celery_segment.buffer.groups import Grouped
from celery_segment.buffer.kinds import kinds_of
from celery_segment.web.panel import panel_site
from celery_segment.web.wsgi import LOOPBACK, WebApplication
from operating import store
from support import buffer_of

HERE = "http://localhost:5556"
#: What stands apart from what is before it.
_APART = {"p", "h1", "h2", "dt", "dd", "th", "td", "li", "small", "title", "a"}


class Form:
    def __init__(self, attributes):
        self.action, self.method = attributes["action"], attributes.get("method", "get")
        self.fields, self.boxes, self.buttons = [], [], []


class Page(HTMLParser):
    """A page as it is read.

    Attributes:
        status, source: Of the response.
        text: What a person reads.
        rows: The rows of the tables: their cells by label, that of the row's name by "".
        links: The addresses of the links, by their texts.
        forms: The forms.
        tags: The names of all elements.
        attributes: The names of all attributes.
    """

    def __init__(self, response):
        super().__init__()
        self.status, self.source = response.status_code, response.text
        self.rows, self.forms, self.links = [], [], {}
        self.tags, self.attributes = set(), set()
        self._texts, self._cell, self._link, self._button = [], None, None, None
        self.feed(self.source)
        self.text = " ".join("".join(self._texts).split())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        if tag in _APART:
            self._texts.append(" ")
        self.attributes |= set(given)
        match tag:
            case "form":
                self.forms.append(Form(given))
            case "input":
                box = given.get("type") == "checkbox"
                if self.forms and "name" in given:
                    kept = self.forms[-1].boxes if box else self.forms[-1].fields
                    kept.append((given["name"], given.get("value", "")))
            case "textarea":
                self.forms[-1].fields.append((given["name"], ""))
            case "button" if self.forms and given.get("type") != "button":
                self._button = [given, ""]
            case "tr":
                self.rows.append({})
            case "td" | "th":
                name = "" if given.get("scope") == "row" else None
                self._cell = [given.get("data-label", name), ""]
            case "a":
                self._link = [given["href"], ""]

    def handle_data(self, data):
        self._texts.append(data)
        for part in (self._cell, self._link, self._button):
            if part is not None:
                part[1] += data

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            label, text = self._cell
            self._cell = None
            if label is not None:
                self.rows[-1][label] = " ".join(text.split())
        elif tag == "a":
            self.links[" ".join(self._link[1].split())] = self._link[0]
            self._link = None
        elif tag == "button" and self._button is not None:
            self.forms[-1].buttons.append((self._button[1].strip(), self._button[0]))
            self._button = None

    def row(self, name):
        """Return the row of this name."""
        (row,) = (row for row in self.rows if row.get("") == name)
        return row

    def form(self, button, **fields):
        """Return the form that has a button of this text, and these fields, and the button."""
        found = [
            (form, given)
            for form in self.forms
            for text, given in form.buttons
            if text == button and set(fields.items()) <= set(form.fields)
        ]
        assert len(found) == 1, f"{len(found)} buttons {button!r} {fields}"
        return found[0]


class Visitor:
    """Somebody who looks at a panel.

    Args:
        pages: The panel as a WSGI application.
    """

    def __init__(self, pages):
        self._client = Client(pages)

    def get(self, path, **query):
        """Return the response to a link."""
        return self._client.get(path, base_url=HERE, query_string=MultiDict(query) or None)

    def submit(self, path, data):
        """Return the response to a form."""
        return self._client.post(path, base_url=HERE, data=data)

    @property
    def token(self):
        self.get("/")
        return self._client.get_cookie("segment_token").value

    def open(self, path):
        return Page(self.get(path))

    def post(self, path, **fields):
        """Return the response to a form that no page has, with the right proof."""
        return self.submit(path, {"token": self.token, **fields})

    def press(self, page, button, *, chosen=(), fill=None, **fields):
        """Press a button of a page; return the page that follows.

        Args:
            page: The page.
            button: The button's text.
            chosen: The values of the boxes to check.
            fill: What to type, by the field's name.
            fields: Fields of the form, to tell it from others that have such a button.
        """
        form, given = page.form(button, **fields)
        data = MultiDict((n, (fill or {}).get(n, v)) for n, v in form.fields)
        data.update({n: list(chosen) for n in dict(form.boxes)})
        if "name" in given:
            data[given["name"]] = given["value"]
        action, method = given.get("formaction", form.action), given.get("formmethod", form.method)
        if method == "get":
            return self.get(action, **data.to_dict(flat=False))
        answer = self.submit(action, data)
        is_done = answer.status_code == 303
        return self.open(answer.headers["Location"]) if is_done else Page(answer)


class Guest(Visitor):
    """Somebody who looks at a panel on a server."""

    def __init__(self, url):
        self._url, self._session = url.rstrip("/"), requests.Session()
        self.headers = self._session.headers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def get(self, path, **query):
        return self._session.get(self._url + path, params=query, timeout=20)

    def submit(self, path, data):
        fields = [(n, v) for n, values in MultiDict(data).lists() for v in values]
        return self._session.post(self._url + path, data=fields, timeout=20, allow_redirects=False)

    @property
    def token(self):
        self.get("/")
        return self._session.cookies["segment_token"]


def visitor_of(app, *, changes=True):
    """Return a visitor of the panel of an application, who may change things or not."""
    return Visitor(WebApplication(panel_site(app), may_change=lambda _: changes, hosts=LOOPBACK))


def bury(app, *events, reason="HTTP 400 Bad Request", words="", source="default"):
    """Store events as one batch that a worker gave up; return its id."""
    buffer = buffer_of(app, source)
    store(app, *events, source=source)
    (batch,) = buffer.claim(1)
    lease = buffer.begin(batch.id, "token")
    grouped = Grouped(reason, kinds_of(lease.body))
    buffer.bury(lease, reason, words, answered=True, grouped=grouped)
    return batch.id
