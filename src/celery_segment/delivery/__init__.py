"""Send a claimed batch to Segment, and settle it according to the response."""
