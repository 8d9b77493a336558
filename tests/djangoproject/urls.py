from django.contrib import admin
from django.urls import path

from djangoproject import views
from djangoproject.pages import other_admin

urlpatterns = [
    path("admin/", admin.site.urls),
    path("other/", other_admin.urls),
    path("items/", views.look),
    path("sign-up/", views.sign_up),
    path("buy/", views.buy),
    path("quiet/", views.quiet),
    path("thrice/", views.thrice),
    path("stream/", views.stream),
    path("order/", views.order),
    path("async/aside/", views.async_aside),
    path("async/leave/", views.async_leave),
]
