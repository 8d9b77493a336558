"""The faults: one small function each; what takes several steps is a class."""

from chaos.faults import connections, disk, endpoint, redis, workers
from chaos.faults.base import FAULTS, FOUND, WORK, Effect, Fault

__all__ = [
    "FAULTS",
    "FOUND",
    "WORK",
    "Effect",
    "Fault",
    "connections",
    "disk",
    "endpoint",
    "redis",
    "workers",
]
