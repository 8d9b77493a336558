"""Tracking plans: read, compiled, applied to messages, and made into classes of events."""
