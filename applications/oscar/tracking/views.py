"""Those pages of oscar for which it sends no signal."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from oscar.apps.basket.views import BasketView as OscarsBasketView
from oscar.apps.catalogue.views import CatalogueView as OscarsCatalogueView

from celery_segment import page, track
from tracking.properties import of_basket, of_line, of_product


class CatalogueView(OscarsCatalogueView):
    """All products: the home page."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Track that the products are looked at."""
        response = super().get(request, *args, **kwargs)
        page.delay(name="Home")
        found = response.context_data["products"]
        products = [of_product(result.object) for result in found]
        track.delay(event="Product List Viewed", properties={"products": products})
        return response


class BasketView(OscarsBasketView):
    """The cart."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Track that the cart is looked at."""
        track.delay(event="Cart Viewed", properties=of_basket(request.basket))
        return super().get(request, *args, **kwargs)

    def formset_valid(self, formset: Any) -> HttpResponse:
        """Track what is removed."""
        for form in formset.deleted_forms:
            properties = {**of_line(form.instance), "cart_id": self.request.basket.pk}
            track.delay_on_commit(event="Product Removed", properties=properties)
        return super().formset_valid(formset)
