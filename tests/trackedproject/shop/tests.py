"""The suite of the project, as it was before the project tracked anything."""

import urllib.request

from django.contrib.auth.models import User
from django.test import (
    LiveServerTestCase,
    RequestFactory,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from shop import tasks, views


class TestPages(TestCase):
    def test_a_stranger_comes_home(self):
        assert self.client.get("/").content == b"welcome"

    def test_a_stranger_buys(self):
        assert self.client.post("/buy/", {"sku": "7"}).content == b"thank you"

    def test_a_user_buys(self):
        self.client.force_login(User.objects.create_user("ann"))
        assert self.client.post("/buy/", {"sku": "7"}).status_code == 200

    def test_later(self):
        assert self.client.get("/later/").status_code == 200

    def test_figures(self):
        assert self.client.get("/figures/").json() == {"waiting": 0, "dead": []}

    async def test_a_stranger_leaves(self):
        assert (await self.async_client.get("/async/")).content == b"bye"


class TestViewsAlone(SimpleTestCase):
    def test_home(self):
        assert views.home(RequestFactory().get("/")).status_code == 200

    def test_buying(self):
        assert views.buy(RequestFactory().post("/buy/", {"sku": "7"})).status_code == 200


class TestCommits(TransactionTestCase):
    def test_a_user_is_saved(self):
        User.objects.create_user("ben").save()


class TestTasks(SimpleTestCase):
    def test_shipping(self):
        assert tasks.ship(7) == 0
        assert tasks.ship.apply((7,)).get() == 0

    @override_settings(CELERY_TASK_ALWAYS_EAGER=True)
    def test_shipping_at_once(self):
        assert tasks.ship.delay(7).get() == 0


class TestServed(LiveServerTestCase):
    def test_home(self):
        with urllib.request.urlopen(self.live_server_url) as answer:  # noqa: S310 - http
            assert answer.read() == b"welcome"
