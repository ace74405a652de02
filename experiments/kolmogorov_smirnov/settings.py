"""The urns of a series: one parameter takes a list of values, the others stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PARAMETERS = ("weight", "total_count", "group_size")


@dataclass(frozen=True)
class Setting:
    """One urn of a series.

    Attributes:
        series: Name of the series.
        parameter: What the series varies.
        value: Its value here.
        total_count: Number of draws n.
        group_sizes: Sizes m, one per group.
        weights: Weights omega, one per group.
    """

    series: str
    parameter: str
    value: float
    total_count: int
    group_sizes: tuple[int, ...]
    weights: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """Returns the columns that identify this urn in a table."""
        return {
            "series": self.series,
            "parameter": self.parameter,
            "value": self.value,
            "total_count": self.total_count,
            "group_sizes": " ".join(str(size) for size in self.group_sizes),
            "weights": " ".join(f"{weight:g}" for weight in self.weights),
        }


def expand(
    name: str,
    *,
    parameter: str,
    values: Sequence[float],
    total_count: int,
    group_sizes: Sequence[int],
    weights: Sequence[float],
    varied_group: int = 1,
) -> list[Setting]:
    """Returns the urns of one series.

    Args:
        name: Name of the series.
        parameter: ``weight``, ``total_count`` or ``group_size``.
        values: The values it takes.
        total_count: Number of draws n, unless varied.
        group_sizes: Sizes m; the entry of ``varied_group`` is replaced where ``group_size`` is varied.
        weights: Weights omega, likewise.
        varied_group: Index, from 0, of the group whose weight or size is varied.

    Raises:
        ValueError: a value is not allowed; the message names it.
    """
    if parameter not in PARAMETERS:
        raise ValueError(f"series.{name}.parameter must be one of {', '.join(PARAMETERS)}, got {parameter!r}")
    if len(group_sizes) != len(weights):
        raise ValueError(f"series.{name}: {len(group_sizes)} group_sizes but {len(weights)} weights")
    if not 0 <= varied_group < len(weights):
        raise ValueError(f"series.{name}.varied_group must be in 0..{len(weights) - 1}, got {varied_group}")
    if not values:
        raise ValueError(f"series.{name}.values must not be empty")
    settings = []
    for value in values:
        count, sizes, omega = total_count, list(group_sizes), [float(weight) for weight in weights]
        if parameter == "total_count":
            count = int(value)
        elif parameter == "group_size":
            sizes[varied_group] = int(value)
        else:
            omega[varied_group] = float(value)
        settings.append(Setting(name, parameter, value, count, tuple(sizes), tuple(omega)))
    return settings


def expand_all(series: Mapping[str, Mapping[str, Any]], limit: int | None) -> list[Setting]:
    """Returns the urns of several series, at most ``limit`` of each (None: all)."""
    settings = []
    for name, section in series.items():
        try:
            settings += expand(name, **section)[:limit]
        except TypeError as error:  # an unknown or a missing key
            raise ValueError(f"series.{name}: {error}") from error
    if not settings:
        raise ValueError("series must name at least one series")
    return settings
