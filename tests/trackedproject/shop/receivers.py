from django.contrib.auth import get_user_model
from django.db.models.signals import post_save
from django.dispatch import receiver

from celery_segment import identify, track


@receiver(post_save, sender=get_user_model())
def saved(instance, created, **_):
    identify.delay(instance.pk, {"name": instance.username})
    if created:
        track.delay_on_commit(instance.pk, "Signed Up")
