"""The shop as an application of Django."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Has every order processed by a worker."""

    name = "shop"

    def ready(self) -> None:
        """Connect the receiver of orders."""
        from oscar.apps.order.signals import order_placed

        from shop.tasks import ask_to_process

        order_placed.connect(ask_to_process)
