"""What an operator asks of a source: figures, flushes, dead letters, health."""
