"""The shop's tests of its calls. They use ``segment_outbox`` and need no Redis.

A call that violates the tracking plan fails its test.
"""

import pytest
from shop.events import OrderCompleted, ProductViewed, SignedUp

pytestmark = pytest.mark.django_db
ANN = {"name": "Ann", "email": "ann@example.com", "company": "Initech"}


@pytest.fixture
def signed_up(client, segment_outbox):
    client.get("/sign-up/")
    assert client.post("/sign-up/", ANN).status_code == 302
    return client


def test_a_visit(client, segment_outbox):
    client.get("/")
    client.get("/items/teapot/", headers={"referer": "http://testserver/"})
    visitor = client.cookies["ajs_anonymous_id"].value
    segment_outbox.assert_sent("page", name="Home", anonymous_id=visitor)
    segment_outbox.assert_sent(
        "page",
        name="Item",
        properties={"title": "Cast-iron teapot"},
        context={"page": {"path": "/items/teapot/", "referrer": "http://testserver/"}},
    )
    segment_outbox.assert_tracked(ProductViewed, anonymous_id=visitor, properties={"price": 64})
    assert len(segment_outbox) == 3


def test_a_sign_up_joins_the_visitor_and_the_user(signed_up, segment_outbox, django_user_model):
    user = django_user_model.objects.get(username=ANN["email"])
    both = {"user_id": user.pk, "anonymous_id": signed_up.cookies["ajs_anonymous_id"].value}
    segment_outbox.assert_sent("alias", previous_id=both["anonymous_id"], user_id=user.pk)
    segment_outbox.assert_identified(**both, traits={"name": "Ann", "email": ANN["email"]})
    segment_outbox.assert_sent("group", **both, group_id="Initech")
    segment_outbox.assert_tracked(SignedUp(company="Initech"), **both)


def test_an_address_signs_up_once(signed_up, segment_outbox):
    segment_outbox.clear()
    assert b"There is an account" in signed_up.post("/sign-up/", ANN).content
    assert not segment_outbox.tracked()


def test_a_purchase(signed_up, segment_outbox, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        assert signed_up.post("/items/sencha/buy/").url == "/thank-you/"
    order = segment_outbox.assert_tracked(OrderCompleted, properties={"revenue": 12.9})
    assert order["userId"] == segment_outbox.identified()[0]["userId"]


def test_what_is_rolled_back_was_not_bought(client, segment_outbox):
    client.post("/items/sencha/buy/")  # the test's transaction never commits
    segment_outbox.assert_nothing()


def test_the_phone_app(client, segment_outbox):
    sent = {"anonymous_id": "phone-7", "name": "Cart"}
    assert client.post("/app/screens/", sent, "application/json").status_code == 204
    segment_outbox.assert_sent("screen", **sent)


@pytest.mark.parametrize("sent", [{}, [], {"anonymous_id": "phone-7", "name": 3}])
def test_the_phone_app_is_told_its_mistake(client, sent, segment_outbox):
    answer = client.post("/app/screens/", sent, "application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]
    segment_outbox.assert_nothing()


def test_what_there_is_not(client, segment_outbox):
    assert client.get("/items/coffee/").status_code == 404
    assert client.post("/items/coffee/buy/").status_code == 404
    segment_outbox.assert_nothing()


def test_operators_have_the_panel(admin_client):
    assert b'href="/admin/celery_segment/panel/"' in admin_client.get("/admin/").content
