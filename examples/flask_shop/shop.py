"""A shop on Flask: its pages and their calls.

Run the worker with ``celery -A shop:celery worker``, and the web server with ``gunicorn shop:app``.
The calls do not pass the visitor's ids, nor the IP address, the browser and the page: the
extension adds them. The events are those of the tracking plan in ``plan.json``: ``celery
segment plan generate events.py --plan plan.json`` makes the classes.
"""

import os
from pathlib import Path
from uuid import uuid4

from celery import Celery
from events import (
    GroupTraits,
    OrderCompleted,
    OrderCompletedProductsItem,
    ProductViewed,
    SignedUp,
    UserTraits,
)
from flask import Flask, abort, redirect, render_template, request, session

from celery_segment import ValidationError, alias, group, identify, page, screen, track
from celery_segment.contrib.flask import Segment

ITEMS = {
    "sencha": {"name": "Sencha", "price": 12.90},
    "earl-grey": {"name": "Earl Grey", "price": 8.50},
    "teapot": {"name": "Cast-iron teapot", "price": 64.00},
}

celery = Celery(
    "shop",
    broker=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    include=["celery_segment"],
)
celery.conf.update(
    broker_connection_retry_on_startup=True,
    # SEGMENT_WRITE_KEY is set only in the environment of the workers.
    segment_host=os.environ.get("SEGMENT_HOST", "https://api.segment.io"),
    # Calls that violate the plan are stored, and an error is logged; a test fails.
    segment_tracking_plan=Path(__file__).with_name("plan.json"),
    # The pages do not use analytics.js, which would set the visitors' ids.
    segment_set_anonymous_id=True,
)
# The calls use this application, in every thread.
celery.set_default()

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SHOP_SECRET_KEY", "for trying out, and for nothing else"),
    # Browsers do not send the session with forms of other sites.
    SESSION_COOKIE_SAMESITE="Lax",
)
# The user is the one who signed up in this session; with flask-login, it would be current_user.
Segment(app, user_id=lambda: session.get("user_id"))


@app.get("/")
def home():
    page.delay(name="Home")
    return render_template("home.html", items=ITEMS)


@app.get("/items/<sku>/")
def item(sku):
    product = _product(sku)
    page.delay(category="Shop", name="Item", properties={"title": product["name"]})
    track.delay(event=ProductViewed(**product))
    return render_template("item.html", product=product)


@app.post("/items/<sku>/buy/")
def buy(sku):
    product = _product(sku)
    order = OrderCompleted(
        order_id=str(uuid4()),
        revenue=product["price"],
        products=[OrderCompletedProductsItem(**product)],
    )
    track.delay(event=order)
    return redirect("/thank-you/")


def _product(sku):
    if sku not in ITEMS:
        abort(404)
    return {"sku": sku, **ITEMS[sku]}


@app.get("/thank-you/")
def thank_you():
    page.delay(name="Thank you")
    return render_template("thank_you.html")


@app.get("/sign-up/")
def sign_up_page():
    page.delay(name="Sign up")
    return render_template("sign_up.html")


@app.post("/sign-up/")
def sign_up():
    given = {field: request.form.get(field, "").strip() for field in ("name", "email", "company")}
    if not all(given.values()):
        return render_template("sign_up.html", error="Please fill in all three."), 400
    # From here on, the calls have the user's id and the anonymous id, so that Segment joins the
    # two.
    session.update(user_id=str(uuid4()), name=given["name"])
    if visitor := request.cookies.get("ajs_anonymous_id"):
        # For destinations that join ids only by alias, such as Mixpanel.
        alias.delay(previous_id=visitor, user_id=session["user_id"])
    identify.delay(traits=UserTraits(name=given["name"], email=given["email"]))
    group.delay(group_id=given["company"], traits=GroupTraits(name=given["company"]))
    track.delay(event=SignedUp(company=given["company"]))
    return redirect("/")


@app.post("/app/screens/")
def screens():
    """Record a screen of the phone app: ``{"anonymous_id": …, "name": …}``."""
    sent = request.get_json()
    try:
        screen.delay(anonymous_id=sent["anonymous_id"], name=sent["name"])
    except (TypeError, KeyError, ValidationError) as error:
        return {"error": str(error)}, 400
    return "", 204


@app.get("/health/")
def health():
    return "ok"
