"""What the shop's workers do for itself."""

from typing import Any

from celery import shared_task
from oscar.core.loading import get_model


@shared_task
def process(order_id: int) -> None:
    """Begin to process an order."""
    get_model("order", "Order").objects.get(pk=order_id).set_status("Being processed")


def ask_to_process(order: Any, **_: Any) -> None:
    """Have a worker process an order that has been placed."""
    process.delay_on_commit(order.pk)
