"""The version, alone, so that the build and the worker's User-Agent read one place."""

__version__ = "0.1.0"
