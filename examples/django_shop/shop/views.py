"""The shop's pages and their calls.

The calls do not pass the visitor's ids, nor the IP address, the browser and the page:
``SegmentMiddleware`` adds them. The events are those of the tracking plan in ``plan.json``:
``celery segment plan generate shop/events.py --plan plan.json`` makes the classes.
"""

import json
from uuid import uuid4

from django import forms
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from celery_segment import ValidationError, alias, group, identify, page, screen, track
from shop.events import (
    GroupTraits,
    OrderCompleted,
    OrderCompletedProductsItem,
    ProductViewed,
    SignedUp,
    UserTraits,
)

ITEMS = {
    "sencha": {"name": "Sencha", "price": 12.90},
    "earl-grey": {"name": "Earl Grey", "price": 8.50},
    "teapot": {"name": "Cast-iron teapot", "price": 64.00},
}


def home(request):
    page.delay(name="Home")
    return render(request, "home.html", {"items": ITEMS})


def item(request, sku):
    product = _product(sku)
    page.delay(category="Shop", name="Item", properties={"title": product["name"]})
    track.delay(event=ProductViewed(**product))
    return render(request, "item.html", {"product": product})


@require_POST
def buy(request, sku):
    product = _product(sku)
    order = OrderCompleted(
        order_id=str(uuid4()),
        revenue=product["price"],
        products=[OrderCompletedProductsItem(**product)],
    )
    with transaction.atomic():
        # A real shop would save the order here. If that is rolled back, nothing is tracked.
        track.delay_on_commit(event=order)
    return redirect("thank-you")


def _product(sku):
    if sku not in ITEMS:
        raise Http404
    return {"sku": sku, **ITEMS[sku]}


def thank_you(request):
    page.delay(name="Thank you")
    return render(request, "thank_you.html")


class SignUp(forms.Form):
    name = forms.CharField(max_length=100)
    email = forms.EmailField(max_length=100)
    company = forms.CharField(max_length=100)

    def clean_email(self):
        if User.objects.filter(username=self.cleaned_data["email"]).exists():
            raise forms.ValidationError("There is an account with this address.")
        return self.cleaned_data["email"]


def sign_up(request):
    form = SignUp(request.POST or None)
    if not form.is_valid():
        page.delay(name="Sign up")
        return render(request, "sign_up.html", {"form": form})
    name, email, company = (form.cleaned_data[field] for field in ("name", "email", "company"))
    user = User.objects.create_user(email, email, first_name=name)
    # From here on, the calls have the user's id and the anonymous id, so that Segment joins the
    # two.
    login(request, user)
    if visitor := request.COOKIES.get("ajs_anonymous_id"):
        # For destinations that join ids only by alias, such as Mixpanel.
        alias.delay(previous_id=visitor, user_id=user.pk)
    identify.delay(traits=UserTraits(name=name, email=email))
    group.delay(group_id=company, traits=GroupTraits(name=company))
    track.delay(event=SignedUp(company=company))
    return redirect("home")


@csrf_exempt
@require_POST
def screens(request):
    """Record a screen of the phone app: ``{"anonymous_id": …, "name": …}``."""
    try:
        sent = json.loads(request.body)
        screen.delay(anonymous_id=sent["anonymous_id"], name=sent["name"])
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    return HttpResponse(status=204)


def health(request):
    return HttpResponse("ok")
