"""Fill the shop with three books, which are sent to one country."""

from decimal import Decimal

from django.core.management.base import BaseCommand
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.core.loading import get_model

BOOKS = {"ink": ("Ink", "12.50"), "paper": ("Paper", "7.99"), "glue": ("Glue", "3.01")}


class Command(BaseCommand):
    """Create what is sold: ``manage.py fill_catalogue``."""

    help = __doc__

    def handle(self, **_: object) -> None:
        """Create the products, their stock, and the country."""
        get_model("address", "Country").objects.create(
            iso_3166_1_a2="GB", printable_name="United Kingdom", is_shipping_country=True
        )
        partner = get_model("partner", "Partner").objects.create(name="The printers")
        kind = get_model("catalogue", "ProductClass").objects.create(name="Book")
        category = create_from_breadcrumbs("Stationery")
        for sku, (title, price) in BOOKS.items():
            product = kind.products.create(title=title, upc=sku)
            product.categories.add(category)
            product.stockrecords.create(
                partner=partner,
                partner_sku=sku,
                price=Decimal(price),
                price_currency="GBP",
                num_in_stock=100,
            )
