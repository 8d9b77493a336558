"""Integrations with web frameworks; the library itself imports none of them."""
