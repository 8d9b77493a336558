"""The shop's URLs."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.home, name="home"),
    path("items/<slug:sku>/", views.item, name="item"),
    path("items/<slug:sku>/buy/", views.buy, name="buy"),
    path("thank-you/", views.thank_you, name="thank-you"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("app/screens/", views.screens, name="screens"),
    path("health/", views.health, name="health"),
    path("admin/", admin.site.urls),
    # For the admin. Where a shop is open to the world, a web server serves these files.
    path("static/<path:path>", serve, {"insecure": True}),
]
