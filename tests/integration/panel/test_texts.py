"""Texts of strangers are shown as text, wherever they are from."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from celery_segment import track
from celery_segment.buffer.groups import Grouped
from celery_segment.buffer.kinds import kinds_of
from celery_segment.operations.findings import Finding
from celery_segment.operations.interviews import Answers
from celery_segment.web.rendering import ENVIRONMENT
from celery_segment.worker.interview import Facts, SourceFacts, TrustFacts
from panels import visitor_of
from support import buffer_of

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "</code></pre><b>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u202c\u2066\u200f",
    "\x1b[2J\x00\x07\x9b\x7f",
    "a\r\nSet-Cookie: x\u2028b",
    "\ufeff\U000e0001",
)
#: All that a page is made of.
TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "div", "header", "nav", "main"),
    *("p", "a", "h1", "h2", "strong", "span", "bdi", "small", "time", "dl", "dt", "dd", "ul", "li"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "form", "input", "label", "button"),
    *("textarea", "details", "summary", "pre", "code", "svg", "g", "rect", "polyline"),
}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= set(dict(attrs))


def check(source, tags, attributes):
    assert tags <= TAGS
    assert (
        not {name for name in attributes if name.startswith("on")}
        | {"style", "srcdoc"} & attributes
    )
    assert source.count("<script") <= 1
    turning = [c for c in source if not c.isprintable() and c != "\n"]
    assert not turning


@pytest.fixture
def batch(app):
    for hostile in HOSTILE:
        track(user_id=hostile, event=hostile, properties={hostile: [hostile]})
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    lease = buffer.begin(batch.id, "token")
    grouped = Grouped("".join(HOSTILE[:3]), kinds_of(lease.body))
    buffer.bury(lease, "".join(HOSTILE[:3]), "".join(HOSTILE), answered=True, grouped=grouped)
    return batch.id


def test_on_every_page(app, batch):
    visitor = visitor_of(app)
    groups = visitor.open("/sources/default/dead").links
    paths = ["/", "/sources/default", "/sources/default/dead", f"/sources/default/dead/{batch}"]
    paths += [link.partition("#")[0] for link in groups.values() if "dead?group=" in link]
    assert len(paths) > 4
    for path in paths:
        page = visitor.open(path)
        assert page.status == 200
        check(page.source, page.tags, page.attributes)
    page = visitor.open(f"/sources/default/dead/{batch}")
    for shown in (
        *HOSTILE[:5],
        r"\u202eevil\u202c\u2066\u200f",
        r"\u001b[2J\u0000\u0007\u009b\u007f",
    ):
        assert shown.replace('"', r"\"") in page.text
    # A reason is one line, whatever the endpoint answered.
    assert "<script>alert(1)</script><img src=x" in page.text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_visitor_sends_comes_back_as_text(app, hostile):
    visitor = visitor_of(app)
    for path in (
        "/sources/default/dead?reason={}", "/sources/default/dead?group={}",
        "/sources/default/dead?since={}", "/sources/default/dead?after={}",
        "/sources/default?hours={}", "/sources/{}", "/sources/default/dead/{}", "/{}",
    ):  # fmt: skip
        page = visitor.open(path.format(quote(hostile.encode(), safe="")))
        assert page.status in {200, 400, 404}
        check(page.source.replace("\r", ""), page.tags, page.attributes)


def test_of_the_workers():
    text = "".join(HOSTILE)
    facts = Facts(
        version=text, application=text, namespace=text, redis=text, problem=text, server=text,
        database=0, queue=text, consumes=[text], sources={text: SourceFacts(True, None)},
        trust=TrustFacts(), idempotency="attempt", propagates_visitor=False,
    )  # fmt: skip
    answers = Answers({text: ["segment.deliver"], "x": {"error": text}}, {text: facts})
    page = ENVIRONMENT.get_template("panel/workers.html").render(
        answers=answers,
        findings=[Finding("workers", text, "fail", text, text)],
        url=lambda name: f"/{name}",
    )
    reader = Tags()
    reader.feed(page)
    check(page, reader.tags, reader.attributes)
    assert "segment.deliver" not in page
