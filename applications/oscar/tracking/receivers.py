"""Receivers of the signals of oscar and Django. None has to be given the request."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from oscar.apps.basket.signals import basket_addition
from oscar.apps.catalogue.signals import product_viewed
from oscar.apps.checkout.signals import start_checkout
from oscar.apps.customer.signals import user_registered
from oscar.apps.order.signals import order_placed, order_status_changed
from oscar.apps.search.signals import user_search

from celery_segment import identify, track
from tracking.properties import of_basket, of_order, of_product


@receiver(product_viewed)
def _product_viewed(product: Any, **_: Any) -> None:
    track.delay(event="Product Viewed", properties=of_product(product))


@receiver(user_search)
def _searched(query: str, **_: Any) -> None:
    track.delay(event="Products Searched", properties={"query": query})


@receiver(basket_addition)
def _product_added(product: Any, request: Any, **_: Any) -> None:
    properties = {**of_product(product), "cart_id": request.basket.pk}
    track.delay_on_commit(event="Product Added", properties=properties)


@receiver(start_checkout)
def _checkout_started(request: Any, **_: Any) -> None:
    track.delay(event="Checkout Started", properties=of_basket(request.basket))


@receiver(user_registered)
def _registered(request: Any, **_: Any) -> None:
    # Oscar logs the user in after this signal. Only then does a call connect the user to what
    # the visitor has done before.
    request.has_registered = True


@receiver(user_logged_in)
def _logged_in(request: Any, user: Any, **_: Any) -> None:
    identify.delay_on_commit(user.pk, traits={"email": user.email, "created_at": user.date_joined})
    event = "Signed Up" if getattr(request, "has_registered", False) else "Signed In"
    track.delay_on_commit(user.pk, event)  # with the id: a test's `force_login` has no visitor


@receiver(user_logged_out)
def _logged_out(user: Any, **_: Any) -> None:
    if user is not None:  # a visitor who was not logged in may log out
        track.delay(user.pk, "Signed Out")


@receiver(order_placed)
def _order_completed(order: Any, **_: Any) -> None:
    track.delay_on_commit(
        event="Order Completed",
        properties=of_order(order),
        message_id=f"order-{order.number}",  # once, however often it is placed
    )


@receiver(order_status_changed)
def _order_updated(order: Any, new_status: str, **_: Any) -> None:
    # Sent in a worker, where there is no visitor.
    properties = {**of_order(order), "status": new_status}
    track.delay_on_commit(order.user_id, "Order Updated", properties)
