from celery import shared_task

from celery_segment import Analytics, track


@shared_task
def ship(user_id):
    track.delay(user_id, "Order Shipped")
    return Analytics().flush(timeout=5)
