"""A claimed batch becomes an HTTP request, and is settled by the answer."""
