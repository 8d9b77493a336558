"""The pages of the shop, some of which are tracked by views of their own."""

from django.urls import include, path

from tracking.views import BasketView, CatalogueView

urlpatterns = [
    path("catalogue/", CatalogueView.as_view()),
    path("basket/", BasketView.as_view()),
    path("", include("shop.urls")),
]
