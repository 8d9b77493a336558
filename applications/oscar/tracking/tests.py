"""What pages track, by Django's own means: no Redis is needed."""

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase
from django.urls import reverse
from oscar.core.loading import get_model

from celery_segment.testing import Outbox


class TrackingTest(TestCase):
    """A visitor of the shop."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Fill the shop."""
        call_command("fill_catalogue")

    def test_a_product_that_is_added(self) -> None:
        """A call on commit is made by the test's own commit."""
        product = get_model("catalogue", "Product").objects.get(upc="ink")
        with Outbox() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.post(reverse("basket:add", args=[product.pk]), {"quantity": 1})
        outbox.assert_tracked("Product Added", properties={"sku": "ink"})

    def test_a_user_who_logs_in(self) -> None:
        """The user is identified."""
        user = get_user_model().objects.create_user("ada", "ada@example.com", "the engine")
        with Outbox() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.force_login(user)
        outbox.assert_identified(user.pk, traits={"email": "ada@example.com"})
        outbox.assert_tracked("Signed In", user_id=user.pk)
