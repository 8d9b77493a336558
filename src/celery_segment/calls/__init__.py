"""The six calls: their signatures, the Celery task behind them, and what they return."""
