"""A message goes into its source's buffer, in the process that calls."""
