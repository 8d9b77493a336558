"""A shop on Flask: its pages, and what each tells Segment.

The Celery application is ``celery -A shop:celery worker``, the web's ``gunicorn shop:app``. No call
says who it is about: the extension knows the visitor, and adds the address, the browser and
the page.
"""

import os
from uuid import uuid4

from celery import Celery
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
    # SEGMENT_WRITE_KEY is in the workers' environment alone.
    segment_host=os.environ.get("SEGMENT_HOST", "https://api.segment.io"),
    # There is no analytics.js on the pages, so the visitors get their ids here.
    segment_set_anonymous_id=True,
)
# The calls belong to it, in every thread.
celery.set_default()

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SHOP_SECRET_KEY", "for trying out, and for nothing else"),
    # Another site's forms come without the session.
    SESSION_COOKIE_SAMESITE="Lax",
)
# The user is who has signed up in this browser; with flask-login it would be its current_user.
Segment(app, user_id=lambda: session.get("user_id"))


@app.get("/")
def home():
    page.delay(name="Home")
    return render_template("home.html", items=ITEMS)


@app.get("/items/<sku>/")
def item(sku):
    product = _product(sku)
    page.delay(category="Shop", name="Item", properties={"title": product["name"]})
    track.delay(event="Product Viewed", properties=product)
    return render_template("item.html", product=product)


@app.post("/items/<sku>/buy/")
def buy(sku):
    product = _product(sku)
    order = {"order_id": str(uuid4()), "revenue": product["price"], "products": [product]}
    track.delay(event="Order Completed", properties=order)
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
    # From here on the calls are the user's, with the id from before: so the two are joined.
    session.update(user_id=str(uuid4()), name=given["name"])
    if visitor := request.cookies.get("ajs_anonymous_id"):
        # For the destinations that join by alias alone, such as Mixpanel.
        alias.delay(previous_id=visitor, user_id=session["user_id"])
    identify.delay(traits={"name": given["name"], "email": given["email"]})
    group.delay(group_id=given["company"], traits={"name": given["company"]})
    track.delay(event="Signed Up", properties={"company": given["company"]})
    return redirect("/")


@app.post("/app/screens/")
def screens():
    """Take what the phone app shows: ``{"anonymous_id": …, "name": …}``."""
    sent = request.get_json()
    try:
        screen.delay(anonymous_id=sent["anonymous_id"], name=sent["name"])
    except (TypeError, KeyError, ValidationError) as error:
        return {"error": str(error)}, 400
    return "", 204


@app.get("/health/")
def health():
    return "ok"
