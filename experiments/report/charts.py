"""Line charts that the page draws itself: sharp at every size, in its own colours, with every value at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.ticker import LogLocator, MaxNLocator

from experiments.results import Provenance

WIDTH, HEIGHT = 640.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 14.0, 48.0
MARGIN = 0.05  # of the range, left free on both sides of an axis


@dataclass(frozen=True)
class Point:
    """A value with what a reader sees who points at it.

    Attributes:
        x: Position in the units of the axis.
        y: Value.
        low: Lower end of its bar.
        high: Upper end of its bar.
        text: The value in words.
    """

    x: float
    y: float
    low: float
    high: float
    text: str

    @classmethod
    def at(cls, x: float, y: float, text: str) -> Point:
        """A point without a bar."""
        return cls(x, y, y, y, text)


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: As in the legend.
        points: In the order of the line.
        provenance: Of its values; None for what no run made, such as the truth.
        joined: Whether a line joins the points.
        marked: Whether points have marks; a line without is a reference.
    """

    name: str
    points: Sequence[Point]
    provenance: Provenance | None = None
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart of several series.

    Attributes:
        key: Its id on the page.
        caption: What it shows and what to see.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        series: What is drawn.
        x_ticks: Positions and words of the marks of the horizontal axis.
        logarithmic: Whether the vertical axis is.
    """

    kind: ClassVar[str] = "chart"
    key: str
    caption: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def _level(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def _y_range(self) -> tuple[float, float]:
        levels = [self._level(end) for one in self.series for point in one.points for end in (point.low, point.high)]
        low, high = min(levels), max(levels)
        margin = MARGIN * (high - low or 1.0)
        return (0.0 if low >= 0 and not self.logarithmic else low - margin), high + margin

    def _x_range(self) -> tuple[float, float]:
        places = [place for place, _ in self.x_ticks] + [point.x for one in self.series for point in one.points]
        margin = MARGIN * (max(places) - min(places) or 1.0)
        return min(places) - margin, max(places) + margin

    def x(self, place: float) -> float:
        """Horizontal position of a place, in the units of the drawing."""
        low, high = self._x_range()
        return round(LEFT + (place - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Vertical position of a value, in the units of the drawing."""
        low, high = self._y_range()
        return round(HEIGHT - BOTTOM - (self._level(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def y_ticks(self) -> list[tuple[float, str]]:
        """Values and words of the marks of the vertical axis."""
        low, high = self._y_range()
        if self.logarithmic:
            values = LogLocator().tick_values(10**low, 10**high)
        else:
            values = MaxNLocator(5).tick_values(low, high)
        return [(float(value), f"{value:g}") for value in values if low <= self._level(value) <= high]

    def line(self, series: Series) -> str:
        """The points of a series' line, as SVG has them."""
        return " ".join(f"{self.x(point.x):g},{self.y(point.y):g}" for point in series.points)
