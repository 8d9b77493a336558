"""What visitors of the shop do, by the names of Segment's specification for e-commerce.

https://segment.com/docs/connections/spec/ecommerce/v2/
"""
