"""The figures: a module each, with a function ``measure(quick)`` that returns a ``Figure``."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

__all__ = ["Claim", "Figure", "Row"]


@dataclass
class Row:
    """The values of a contestant, one for each round."""

    name: str
    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass
class Claim:
    """A value computed from the measurements, and its goal."""

    text: str
    value: float
    goal: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Figure:
    """The measurements of a module.

    Attributes:
        title: The name of the figure.
        unit: The unit of the rows' values; empty if each row names its own.
        rows: The contestants' values.
        claims: The values to check, and their goals.
        notes: Remarks for the reader.
        more_is_better: Whether higher values are better.
    """

    title: str
    unit: str
    rows: list[Row]
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = False
