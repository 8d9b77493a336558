"""One module per figure; each has ``measure(quick)``, which returns a ``Figure``."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

__all__ = ["Claim", "Figure", "Row"]


@dataclass
class Row:
    """A contestant's values, one for each round."""

    name: str
    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass
class Claim:
    """A ratio of the run, and what is to be reached."""

    text: str
    value: float
    goal: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Figure:
    """What one module measured.

    Attributes:
        title: Its name.
        unit: Of the rows' values.
        rows: The contestants.
        claims: What is made of them.
        notes: What a reader has to know.
        more_is_better: Which way the plot points.
    """

    title: str
    unit: str
    rows: list[Row]
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = False
