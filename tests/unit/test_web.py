"""What the integrations read of a request: cookies, addresses, languages, the page."""

from __future__ import annotations

import uuid

import pytest
from celery import Celery

from celery_segment.contrib.web import MAX_TEXT, Request, WebVisitor, percent_encoded

UUID = "48d213bb-95c3-4f8d-af97-86b2b404dcfe"


def visitor(
    *,
    proxies=0,
    set_anonymous_id=False,
    address="192.0.2.1",
    origin="",
    path="/",
    query="",
    user=None,
    **headers,
):
    app = Celery("tests")
    app.set_default()
    app.conf.segment_trusted_proxies = proxies
    app.conf.segment_set_anonymous_id = set_anonymous_id
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebVisitor(lambda: Request(headers.get, address, origin, path, query), lambda: user)


@pytest.mark.parametrize(
    ("cookie", "anonymous_id"),
    [
        (f"ajs_anonymous_id={UUID}", UUID),
        (f"a=b; ajs_anonymous_id={UUID}; c=d", UUID),
        (f"a=b;ajs_anonymous_id={UUID};c=d", UUID),
        (f"ajs_anonymous_id=%22{UUID}%22", UUID),
        (f'ajs_anonymous_id="{UUID}"', UUID),
        ("ajs_anonymous_id=my%20id%3D1", "my id=1"),
        ("ajs_anonymous_id=a=b", "a=b"),
        ("ajs_anonymous_id=" + "x" * 200, "x" * 200),
        ("ajs_anonymous_id=n%C3%BAria", "núria"),
        (None, None),
        ("", None),
        ("other=1", None),
        (f"xajs_anonymous_id={UUID}", None),
        ("ajs_anonymous_id", None),
        ("ajs_anonymous_id=", None),
        ("ajs_anonymous_id=%22%22", None),
        ("ajs_anonymous_id=%22unfinished", None),
        ("ajs_anonymous_id=%22%5Cud800%22", None),
        ("ajs_anonymous_id=null", None),
        ("ajs_anonymous_id=%22null%22", None),
        ("ajs_anonymous_id=undefined", None),
        ("ajs_anonymous_id=" + "x" * 201, None),
        ("ajs_anonymous_id=" + "%41" * 201, None),
        ("ajs_anonymous_id=a%00b", None),
        ("ajs_anonymous_id=a%0Ab", None),
    ],
)
def test_the_cookie_of_analytics_js(cookie, anonymous_id):
    assert visitor(cookie=cookie).anonymous_id == anonymous_id


@pytest.mark.parametrize(("origin", "secure"), [("https://h", "; Secure"), ("http://h", "")])
def test_a_new_id_is_kept_in_the_cookie_of_analytics_js(origin, secure):
    someone = visitor(origin=origin)
    assert (someone.new_anonymous_id(), someone.anonymous_id, someone.response_starts()) == (
        None,
    ) * 3
    someone = visitor(origin=origin, set_anonymous_id=True)
    value = someone.new_anonymous_id()
    assert someone.anonymous_id == value == str(uuid.UUID(value))
    cookie = someone.response_starts()
    assert cookie == f"ajs_anonymous_id={value}; Max-Age=31536000; Path=/; SameSite=Lax{secure}"
    assert visitor(cookie=cookie.partition(";")[0]).anonymous_id == value


@pytest.mark.parametrize(
    ("user", "cookie", "is_given"),
    [
        (None, None, True),
        (7, "sessionid=1", True),
        (None, "csrftoken=1", True),
        # A client of an API, which would get another one with each request.
        (7, None, False),
        (7, "", False),
    ],
)
def test_a_known_user_without_any_cookie_gets_no_new_id(user, cookie, is_given):
    someone = visitor(user=user, cookie=cookie, set_anonymous_id=True)
    assert (someone.new_anonymous_id() is not None) == is_given
    assert (someone.anonymous_id is not None) == (someone.response_starts() is not None) == is_given


@pytest.mark.parametrize(
    ("address", "forwarded", "proxies", "ip"),
    [
        ("192.0.2.1", None, 0, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", 0, "192.0.2.1"),
        ("10.0.0.1", "203.0.113.9", 1, "203.0.113.9"),
        ("10.0.0.1", "spoofed, 203.0.113.9", 1, "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6,203.0.113.9 , 10.0.0.2", 2, "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9", 2, "10.0.0.1"),
        ("10.0.0.1", None, 1, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:1234", 1, "203.0.113.9"),
        ("10.0.0.1", "2001:DB8::1", 1, "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]:443", 1, "2001:db8::1"),
        ("10.0.0.1", "unknown", 1, None),
        ("10.0.0.1", "1.2.3.4.5", 1, None),
        ("10.0.0.1", "203.0.113.9, ", 1, None),
        ("", None, 0, None),  # a Unix socket
        (None, None, 0, None),
        ("unix:", None, 0, None),
    ],
)
def test_the_address(address, forwarded, proxies, ip):
    found = visitor(address=address, x_forwarded_for=forwarded, proxies=proxies)
    assert found.context.get("ip") == ip


@pytest.mark.parametrize(
    ("accepted", "locale"),
    [
        ("de-CH", "de-CH"),
        ("en-US,en;q=0.5", "en-US"),
        (" fr;q=0.9 , en", "fr"),
        ("*", None),
        ("", None),
        (None, None),
        ("x" * 36, None),
    ],
)
def test_the_language(accepted, locale):
    assert visitor(accept_language=accepted).context.get("locale") == locale


def test_the_page():
    whole = visitor(
        origin="https://shop.example", path="/a%20b", query="q=1", referer="https://e.example/"
    )
    assert whole.context["page"] == {
        "url": "https://shop.example/a%20b?q=1",
        "path": "/a%20b",
        "search": "?q=1",
        "referrer": "https://e.example/",
    }
    assert visitor().context == {"ip": "192.0.2.1", "page": {"path": "/"}}
    assert percent_encoded("/a b/ü@c:d?#") == "/a%20b/%C3%BC@c:d%3F%23"


def test_no_header_makes_a_message_too_large():
    long = "x" * 8_000
    found = visitor(origin="http://h", path=f"/{long}", query=long, referer=long, user_agent=long)
    page = found.context["page"]
    assert {len(text) for text in (*page.values(), found.context["userAgent"])} == {MAX_TEXT}


def test_a_request_is_read_once_and_only_if_need_be():
    read = []

    def reading():
        read.append(1)
        return Request({}.get, None, "", "/", "")

    found = WebVisitor(reading, lambda: 7)
    assert found.user_id == 7
    assert not read
    assert found.anonymous_id is None
    assert found.context is found.context
    assert len(read) == 1
