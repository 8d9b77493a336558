"""Oscar's objects as properties of Segment's specification."""

from typing import Any


def of_product(product: Any) -> dict[str, Any]:
    """Return what is told of a product."""
    stock = product.stockrecords.first()
    category = product.categories.first()
    return {
        "product_id": product.pk,
        "sku": stock and stock.partner_sku,
        "name": product.get_title(),
        "category": category and category.full_name,
        "price": stock and stock.price,
        "currency": stock and stock.price_currency,
    }


def of_line(line: Any) -> dict[str, Any]:
    """Return what is told of a line of a basket or an order."""
    return {**of_product(line.product), "quantity": line.quantity}


def of_basket(basket: Any) -> dict[str, Any]:
    """Return what is told of a basket."""
    return {"cart_id": basket.pk, "products": [of_line(line) for line in basket.all_lines()]}


def of_order(order: Any) -> dict[str, Any]:
    """Return what is told of an order."""
    return {
        "order_id": str(order.number),  # oscar gives a new order a number
        "total": order.total_incl_tax,
        "revenue": order.basket_total_excl_tax,
        "shipping": order.shipping_incl_tax,
        "tax": order.total_incl_tax - order.total_excl_tax,
        "discount": order.total_discount_incl_tax,
        "currency": order.currency,
        "products": [of_line(line) for line in order.lines.all()],
    }
