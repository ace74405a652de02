"""The urns of a series: one parameter takes a list of values, the others stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import mvhg
from experiments.settings import NonNegativeInt, settings


@dataclass(frozen=True)
class Urn:
    """One urn of a series."""

    series: str
    parameter: str  # what the series varies
    value: float  # of the parameter
    total_count: int  # number of draws n
    group_sizes: tuple[int, ...]  # m
    weights: tuple[float, ...]  # omega

    def describe(self) -> dict[str, Any]:
        """Returns the columns that identify this urn in a table of its series."""
        return {
            "parameter": self.parameter,
            "value": self.value,
            "total_count": self.total_count,
            "group_sizes": " ".join(str(size) for size in self.group_sizes),
            "weights": " ".join(f"{weight:g}" for weight in self.weights),
        }


@settings
class Series:
    """Urns that differ in one parameter.

    Attributes:
        parameter: What is varied.
        values: The values that it takes.
        total_count: Number of draws n, unless varied.
        group_sizes: Sizes m; the entry of ``varied_group`` is replaced where the group size is varied.
        weights: Weights omega, likewise.
        varied_group: Index, from 0, of the group whose weight or size is varied.

    Raises:
        ValueError: an urn of the series can't be; the message names it.
    """

    parameter: Literal["weight", "total_count", "group_size"]
    values: list[int | float]
    total_count: int
    group_sizes: list[int]
    weights: list[float]
    varied_group: NonNegativeInt = 1

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must not be empty")
        if self.varied_group >= len(self.weights):
            raise ValueError(f"varied_group must be in 0..{len(self.weights) - 1}, got {self.varied_group}")
        for urn in self.urns(""):
            try:
                mvhg.MultivariateHypergeometric(urn.total_count, urn.group_sizes, weights=urn.weights)
            except ValueError as error:
                raise ValueError(f"{urn.parameter} {urn.value:g}: {error}") from error

    def urns(self, name: str) -> list[Urn]:
        """Returns the urns in the order of the values, under the series' name."""
        urns = []
        for value in self.values:
            count, sizes, omega = self.total_count, list(self.group_sizes), list(self.weights)
            if self.parameter == "total_count":
                count = int(value)
            elif self.parameter == "group_size":
                sizes[self.varied_group] = int(value)
            else:
                omega[self.varied_group] = float(value)
            urns.append(Urn(name, self.parameter, value, count, tuple(sizes), tuple(omega)))
        return urns
