"""The faults: one small function each; what takes several steps is a class.

A module has those of which the same is harmed; ``chaos.topologies`` says which there are where.
"""

from chaos.faults.base import FOUND, WORK, Effect, Fault

__all__ = ["FOUND", "WORK", "Effect", "Fault"]
