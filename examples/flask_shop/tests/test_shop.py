"""The shop's tests of its calls. They use ``segment_outbox`` and need no Redis.

A call that violates the tracking plan fails its test.
"""

import pytest
from events import OrderCompleted, ProductViewed, SignedUp
from shop import app

ANN = {"name": "Ann", "email": "ann@example.com", "company": "Initech"}


@pytest.fixture
def client():
    return app.test_client()


@pytest.fixture
def signed_up(client, segment_outbox):
    client.get("/sign-up/")
    assert client.post("/sign-up/", data=ANN).status_code == 302
    return client


def test_a_visit(client, segment_outbox):
    client.get("/")
    client.get("/items/teapot/", headers={"referer": "http://localhost/"})
    visitor = client.get_cookie("ajs_anonymous_id").value
    segment_outbox.assert_sent("page", name="Home", anonymous_id=visitor)
    segment_outbox.assert_sent(
        "page",
        name="Item",
        properties={"title": "Cast-iron teapot"},
        context={"page": {"path": "/items/teapot/", "referrer": "http://localhost/"}},
    )
    segment_outbox.assert_tracked(ProductViewed, anonymous_id=visitor, properties={"price": 64})
    assert len(segment_outbox) == 3


def test_a_sign_up_joins_the_visitor_and_the_user(signed_up, segment_outbox):
    with signed_up.session_transaction() as session:
        user_id = session["user_id"]
    visitor = signed_up.get_cookie("ajs_anonymous_id").value
    both = {"user_id": user_id, "anonymous_id": visitor}
    segment_outbox.assert_sent("alias", previous_id=visitor, user_id=user_id)
    segment_outbox.assert_identified(**both, traits={"name": "Ann", "email": ANN["email"]})
    segment_outbox.assert_sent("group", **both, group_id="Initech")
    segment_outbox.assert_tracked(SignedUp(company="Initech"), **both)
    assert b"Hello, Ann" in signed_up.get("/").data


def test_a_sign_up_needs_all(client, segment_outbox):
    assert client.post("/sign-up/", data={**ANN, "email": " "}).status_code == 400
    segment_outbox.assert_nothing()


def test_a_purchase(signed_up, segment_outbox):
    assert signed_up.post("/items/sencha/buy/").location == "/thank-you/"
    order = segment_outbox.assert_tracked(OrderCompleted, properties={"revenue": 12.9})
    assert order["userId"] == segment_outbox.identified()[0]["userId"]


def test_the_phone_app(client, segment_outbox):
    sent = {"anonymous_id": "phone-7", "name": "Cart"}
    assert client.post("/app/screens/", json=sent).status_code == 204
    segment_outbox.assert_sent("screen", **sent)


@pytest.mark.parametrize("sent", [{}, [], {"anonymous_id": "phone-7", "name": 3}])
def test_the_phone_app_is_told_its_mistake(client, sent, segment_outbox):
    answer = client.post("/app/screens/", json=sent)
    assert answer.status_code == 400
    assert answer.json["error"]
    segment_outbox.assert_nothing()


def test_what_there_is_not(client, segment_outbox):
    assert client.get("/items/coffee/").status_code == 404
    assert client.post("/items/coffee/buy/").status_code == 404
    segment_outbox.assert_nothing()
