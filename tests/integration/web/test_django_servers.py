"""A Django project under gunicorn's processes, with a worker."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
import requests

from sites import HEADERS, HOST
from support import TESTS, Gunicorn, Worker


class TestServers:
    VISITORS = 8

    def visit(self, url, number):
        """Look, sign up and buy, as a browser with analytics.js does."""
        with requests.Session() as browser:
            browser.trust_env = False
            forwarded = f"10.0.0.1, 198.51.100.{number}"
            browser.headers.update({**HEADERS, "host": HOST, "x-forwarded-for": forwarded})
            anonymous = quote(f'"anonymous {number}"')
            browser.headers["cookie"] = f"ajs_anonymous_id={anonymous}"
            browser.get(f"{url}/items/").raise_for_status()
            signed_up = browser.post(f"{url}/sign-up/", {"name": f"visitor{number}"})
            signed_up.raise_for_status()
            session = signed_up.cookies["sessionid"]
            browser.headers["cookie"] += f"; sessionid={session}"
            browser.post(f"{url}/buy/?sku={number}", {"sku": str(number)}).raise_for_status()
            return signed_up.text

    @pytest.fixture
    def served(self, tmp_path, project, redis, redis_server, server):  # noqa: ARG002 - an empty Redis
        """The address of two processes of gunicorn, with a worker behind."""
        settings = {
            "CELERY_BROKER_URL": redis_server.url,
            "CELERY_SEGMENT_HOST": server.url,
            "CELERY_SEGMENT_TRUSTED_PROXIES": 1,
            "CELERY_SEGMENT_BATCH_REQUESTS": True,
        }
        environ = {
            "DJANGO_SETTINGS_MODULE": "djangoproject.settings",
            "SHOP_DATABASE": str(project),
            "SHOP_SETTINGS": json.dumps(settings),
            "PYTHONPATH": str(TESTS),
        }
        worker = Worker(tmp_path, {}, "shop", ("--concurrency=2",), environ, "djangoproject")
        try:
            with Gunicorn(tmp_path, "djangoproject.wsgi", environ, processes=2) as web:
                worker.wait_ready()
                yield web.url
        finally:
            worker.kill()

    def test_a_page_view_a_sign_up_and_a_purchase_arrive_as_the_visitors(self, served, server):
        numbers = range(1, 1 + self.VISITORS)
        with ThreadPoolExecutor(self.VISITORS) as browsers:
            users = dict(
                zip(numbers, browsers.map(lambda n: self.visit(served, n), numbers), strict=True)
            )
        assert server.wait_for_messages(4 * self.VISITORS, timeout=15)
        for number, user in users.items():
            theirs = [m for m in server.messages if m["anonymousId"] == f"anonymous {number}"]
            by_type = {m.get("event", m["type"]): m for m in theirs}
            assert sorted(by_type) == ["Item Purchased", "Signed Up", "identify", "page"]
            assert "userId" not in by_type.pop("page")
            assert {m["userId"] for m in by_type.values()} == {user}
            assert {m["context"]["ip"] for m in theirs} == {f"198.51.100.{number}"}
            bought = by_type["Item Purchased"]
            assert bought["properties"] == {"sku": str(number)}
            assert bought["context"]["page"]["url"] == f"http://shop.example/buy/?sku={number}"
            assert bought["context"]["userAgent"] == "Mozilla/5.0"
