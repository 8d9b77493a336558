from celery_segment.contrib.django.middleware import SegmentMiddleware


class ByName(SegmentMiddleware):
    def user_id(self, user):
        return user.username
