from django.urls import path

from djangoproject import views

urlpatterns = [
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
