"""What a host of pages takes and refuses: names, forms, passwords; and what each answer has."""

from __future__ import annotations

import base64
import re

import pytest
from werkzeug.exceptions import BadRequest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from celery_segment.errors import BufferUnavailable, ValidationError
from celery_segment.web.site import Route, Site
from celery_segment.web.visit import Done, Page
from celery_segment.web.wsgi import LOOPBACK, LiveHeader, WebApplication

HERE = "http://localhost:5556"
MARKUP = "<b>\u202e\x1b</b>"


def failing(error):
    def fail(_):
        raise error

    return fail


def make_site(done=("done it", False)):
    changes = []

    def change(visit):
        changes.append(visit.argument("what"))
        return Done(done[0], visit.url("home"), "default", failed=done[1])

    routes = [
        Route("/", "home", lambda _: Page("error.html", "Home", {"text": "", "is_away": False})),
        Route("/file", "file", lambda _: Response(iter([b"a", b"b"]))),
        Route("/error", "error", failing(BufferUnavailable("Redis is away", hint=MARKUP))),
        Route("/refused", "refused", failing(ValidationError("user_id", "must not be empty"))),
        Route("/bad", "bad", failing(BadRequest(MARKUP))),
        Route("/change", "change", change, changes=True),
    ]
    return Site("Pages", routes, [("home", "Home")]), changes


@pytest.fixture
def site():
    return make_site()[0]


def client_of(site, **options):
    return Client(WebApplication(site, **{"hosts": LOOPBACK, **options}))


def may(_):
    return True


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5556", "127.0.0.1:80", "[::1]:5556"])
def test_a_loopback_address_is_asked_by_its_names(site, host):
    assert client_of(site).get("/", base_url=f"http://{host}").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "x"]
)
def test_a_name_of_somebody_else_shows_nothing(site, host):
    answer = client_of(site).get("/", base_url=f"http://{host}")
    assert (answer.status_code, answer.text) == (421, "This host is not known by that name.\n")
    assert "Set-Cookie" not in answer.headers


def test_where_another_application_decides_any_name_is_good(site):
    assert client_of(site, hosts=None).get("/", base_url="http://a.example").status_code == 200


def test_who_may_not_view_sees_nothing(site):
    client = client_of(site, may_view=lambda request: request.headers.get("X-User") == "ada")
    assert client.get("/", base_url=HERE).status_code == 403
    assert client.get("/assets/pages.css", base_url=HERE).status_code == 403
    assert client.get("/", base_url=HERE, headers={"X-User": "ada"}).status_code == 200


@pytest.mark.parametrize(
    ("given", "status"), [("right", 200), ("wrong", 401), ("", 401), ("ünïcödé", 401), (None, 401)]
)
def test_a_password(site, given, status):
    headers = {}
    if given is not None:
        both = base64.b64encode(f"any:{given}".encode()).decode()
        headers["Authorization"] = f"Basic {both}"
    answer = client_of(site, password="right").get("/", base_url=HERE, headers=headers)
    assert answer.status_code == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


# ---------------------------------------------------------------- forms


def token_of(client):
    client.get("/", base_url=HERE)
    return client.get_cookie("segment_token").value


def change(client, **options):
    given = {"base_url": HERE, "data": {"token": token_of(client), "what": "x"}, **options}
    return client.post("/change", **given)


def test_a_form_of_the_site_is_taken_and_told_once():
    site, changes = make_site()
    client = client_of(site, may_change=may)
    answer = change(client)
    assert (answer.status_code, answer.location) == (303, "/")
    assert changes == ["x"]
    assert (
        '<p class="done" role="status"><bdi>done it</bdi></p>'
        in client.get("/", base_url=HERE).text
    )
    assert "done it" not in client.get("/", base_url=HERE).text


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"what": "x"}},
        {"data": {"token": "", "what": "x"}},
        {"data": {"token": "guessed", "what": "x"}},
        {"headers": {"Origin": "https://evil.example"}},
        {"headers": {"Origin": "null"}},
        {"headers": {"Sec-Fetch-Site": "cross-site"}},
        {"headers": {"Sec-Fetch-Site": "same-site"}},
    ],
)
def test_a_form_from_elsewhere_is_refused(options):
    site, changes = make_site()
    assert change(client_of(site, may_change=may), **options).status_code == 403
    assert not changes


def test_a_token_without_its_cookie_proves_nothing():
    site, changes = make_site()
    client = client_of(site, may_change=may)
    token = token_of(client)
    client.delete_cookie("segment_token")
    answer = client.post("/change", base_url=HERE, data={"token": token})
    assert (answer.status_code, changes) == (403, [])


def test_who_may_only_view_changes_nothing():
    site, changes = make_site()
    answer = change(client_of(site))
    assert answer.status_code == 403
    assert "You may look at this, but not change it." in answer.text
    assert not changes


def test_an_action_is_not_taken_from_a_link():
    site, changes = make_site()
    client = client_of(site, may_change=may)
    assert client.get("/change", base_url=HERE).status_code == 405
    assert client.post("/", base_url=HERE, data={"token": token_of(client)}).status_code == 405
    assert not changes


def test_a_form_that_is_too_large_is_refused():
    site, changes = make_site()
    answer = change(client_of(site, may_change=may), data={"what": "x" * 1_000_001})
    assert answer.status_code == 413
    assert not changes


@pytest.mark.parametrize(
    "text", ["<i>\u202e", "ä" * 2_000, "\U0001f600" * 500, "a;b\r\nSet-Cookie: c"]
)
def test_what_was_done_is_told_as_text(text):
    site, _ = make_site((text, True))
    client = client_of(site, may_change=may)
    (cookie,) = (c for c in change(client).headers.getlist("Set-Cookie") if "segment_done" in c)
    assert len(cookie) < 4_096
    page = client.get("/", base_url=HERE).text
    found = re.search('<p class="done failed" role="status"><bdi>(.*)</bdi></p>', page)[1]
    assert found.startswith(("&lt;i&gt;\ufffd", "äää", "\U0001f600", "a;b Set-Cookie: c"))


def test_a_cookie_that_is_not_of_this_site_is_told_as_nothing(site):
    client = client_of(site)
    for value in ("%5B", "1", "%5B%22a%22%5D", "\x80"):
        client.set_cookie("segment_done", value)
        assert "done" not in client.get("/", base_url=HERE).text.partition("<main")[2]


# ---------------------------------------------------------------- what an answer has


def test_pages_run_nothing_but_their_own_script_and_are_framed_by_nobody(site):
    for path in ("/", "/file", "/assets/pages.js", "/nothing", "/error"):
        headers = client_of(site).get(path, base_url=HERE).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"


def test_no_page_is_kept_and_assets_are(site):
    client = client_of(site)
    page = client.get("/", base_url=HERE)
    assert page.headers["Cache-Control"] == "no-store"
    asset = re.search('href="(/assets/[^"]*)"', page.text)[1]
    answer = client.get(asset, base_url=HERE)
    assert (answer.status_code, answer.mimetype) == (200, "text/css")
    assert "immutable" in answer.headers["Cache-Control"]
    assert client.get("/assets/../wsgi.py", base_url=HERE).status_code == 404
    assert client.get("/assets/wsgi.py", base_url=HERE).status_code == 404


def test_cookies_are_for_this_place_alone(site):
    application = WebApplication(site)
    client = Client(application)
    answer = client.get("/", base_url="https://example.com/panel")
    (cookie,) = answer.headers.getlist("Set-Cookie")
    assert {"HttpOnly", "Path=/panel", "SameSite=Strict", "Secure"} <= set(cookie.split("; "))
    assert 'href="/panel/"' in answer.text


def test_the_script_of_a_page_gets_the_content_alone(site):
    headers = {LiveHeader: "1"}
    assert client_of(site).get("/", base_url=HERE, headers=headers).text.startswith("<h1>Home</h1>")


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nothing", 404, "Not Found"),
        ("/error", 503, "Redis is away: &lt;b&gt;\ufffd\ufffd&lt;/b&gt;"),
        ("/refused", 400, "user_id: must not be empty"),
        ("/bad", 400, "&lt;b&gt;\ufffd\ufffd&lt;/b&gt;"),
    ],
)
def test_an_error_is_a_page(site, path, status, text):
    answer = client_of(site).get(path, base_url=HERE)
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert text in answer.text
    # It is loaded again while Redis is away.
    assert ('id="unavailable" data-live' in answer.text) == (status == 503)


def test_the_page_that_is_shown_is_marked_in_the_head(site):
    page = client_of(site).get("/", base_url=HERE).text
    assert '<a href="/" aria-current="page">Home</a>' in page
    assert "aria-current" not in client_of(site).get("/bad", base_url=HERE).text
