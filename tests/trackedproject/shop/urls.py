from django.urls import path

from shop import views

urlpatterns = [
    path("", views.home),
    path("buy/", views.buy),
    path("later/", views.later),
    path("async/", views.leave),
    path("figures/", views.figures),
]
