"""Tests that the project has written since: of what it tracks, and of what is stored."""

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory, TestCase

from celery_segment import Analytics, NoIdentity, ValidationError, track
from celery_segment.contrib.django.middleware import SegmentMiddleware
from celery_segment.testing import Outbox, real_buffer
from shop import views


class TestTracked(TestCase):
    def test_what_a_user_buys(self):
        user = User.objects.create_user("ann")
        self.client.force_login(user)
        with Outbox() as outbox:
            self.client.post("/buy/", {"sku": "7"})
        outbox.assert_tracked("Item Purchased", user_id=user.pk, properties={"sku": "7"})

    def test_a_view_alone(self):
        request = RequestFactory().get("/")
        request.user = User.objects.create_user("ann")
        with Outbox() as outbox:
            SegmentMiddleware(views.home)(request)
        outbox.assert_sent("page", user_id=request.user.pk)

    def test_what_is_wrong_is_refused(self):
        with pytest.raises(NoIdentity, match="give user_id or anonymous_id"):
            track.delay(event="E")
        with pytest.raises(ValidationError, match="event: is required"):
            track.delay("u")


class TestStored(TestCase):
    @real_buffer()
    def test_in_a_decorated_test(self):
        track.delay("u", "decorated")
        assert Analytics().stats().waiting

    def test_in_a_block(self):
        with real_buffer():
            track.delay("u", "in a block")
        track.delay("u", "after it")


@pytest.mark.segment_buffer
def test_in_a_marked_test():
    track.delay("u", "marked")
    assert Analytics().stats().waiting


def test_in_a_test_without_a_mark():
    track.delay("u", "unmarked")
    assert Analytics().stats().waiting == 0
