"""Simulate appends and deliveries, so that a load which no machine at hand has can be planned.

    python -m benchmarks.simulation             the stored points beside the simulated ones
    python -m benchmarks.simulation --measure   measure anew, and compare
    python -m benchmarks.simulation --plan      100,000 and 1,000,000 events a second

``make scale`` measures anew.
"""
