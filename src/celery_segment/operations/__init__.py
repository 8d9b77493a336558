"""The operator's operations on a source: figures, flushes, dead letters, health checks."""
