"""The urns of a series: one parameter takes a list of values, the others stay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

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

    def columns(self) -> dict[str, Any]:
        """Returns the columns that identify this urn in a table."""
        sizes, weights = " ".join(map(str, self.group_sizes)), " ".join(f"{weight:g}" for weight in self.weights)
        return asdict(self) | {"group_sizes": sizes, "weights": weights}


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
    values: Annotated[list[int | float], Field(min_length=1)]
    total_count: int
    group_sizes: list[int]
    weights: list[float]
    varied_group: NonNegativeInt = 1

    def __post_init__(self) -> None:
        groups = min(len(self.group_sizes), len(self.weights))
        if self.varied_group >= groups:
            raise ValueError(f"varied_group must be in 0..{groups - 1}, got {self.varied_group}")
        if self.parameter != "weight" and any(value % 1 for value in self.values):
            raise ValueError(f"values of a {self.parameter} must be whole numbers, got {self.values}")
        for urn in self.urns(""):
            try:
                mvhg.MultivariateHypergeometric(urn.total_count, urn.group_sizes, weights=urn.weights)
            except ValueError as error:
                raise ValueError(f"{urn.parameter} {urn.value:g}: {error}") from error

    def urns(self, name: str) -> list[Urn]:
        """Returns the urns in the order of the values, under the series' name."""
        urns = []
        for value in self.values:
            count, sizes, weights = self.total_count, list(self.group_sizes), list(self.weights)
            if self.parameter == "total_count":
                count = int(value)
            elif self.parameter == "group_size":
                sizes[self.varied_group] = int(value)
            else:
                weights[self.varied_group] = value
            urns.append(Urn(name, self.parameter, value, count, tuple(sizes), tuple(weights)))
        return urns
