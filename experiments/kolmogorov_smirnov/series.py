"""The urns of a series, in which one parameter takes a list of values, and draws from them, counted in histograms.

The histogram of integers is the whole sample: its cumulative sum is the exact empirical distribution function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

import mvhg
from experiments.settings import NonNegativeInt, settings

TEMPERATURE = 0.5  # the hard counts do not depend on it


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


def histogram(urn: Urn, draw: Callable[[int], Tensor], draws: int, batch_size: int) -> Tensor:
    """Returns how often each group held 0, 1, ..., largest size elements, int64 [groups, values].

    Args:
        urn: The urn.
        draw: Gives so many draws, [draws, groups].
        draws: In all.
        batch_size: Draws at a time.

    Raises:
        RuntimeError: a draw can't come from this urn.
    """
    sizes = torch.tensor(urn.group_sizes)
    groups, values = len(sizes), int(sizes.max()) + 1
    offsets = torch.arange(groups) * values  # each group has its own row of bins
    found = torch.zeros(groups * values, dtype=torch.int64)
    for start in range(0, draws, batch_size):
        counts = draw(min(batch_size, draws - start)).cpu()
        if not bool(((counts.sum(-1) == urn.total_count) & ((counts >= 0) & (counts <= sizes)).all(-1)).all()):
            raise RuntimeError(f"the sampler left the support of {urn}")
        found += torch.bincount((counts.long() + offsets).flatten(), minlength=groups * values)
    return found.view(groups, values)


def sampler(urn: Urn, conditionals: str, kind: str, generator: torch.Generator) -> Callable[[int], Tensor]:
    """Returns what draws on the generator's device, a number of draws -> counts [draws, groups].

    Args:
        urn: The urn.
        conditionals: ``exact`` or ``merged`` (the paper's; groups in the order 0, 1, 2, ...).
        kind: ``sample`` (the distribution's own) or ``straight_through`` (the differentiable one's hard counts).
        generator: Random source.
    """
    sizes = torch.tensor(urn.group_sizes, device=generator.device)
    weights = torch.tensor(urn.weights, dtype=torch.float32, device=generator.device)
    order = tuple(range(len(urn.weights))) if conditionals == "merged" else None
    if kind == "sample":
        exact = mvhg.MultivariateHypergeometric(
            urn.total_count, sizes, weights, conditionals=conditionals, group_order=order
        )
        return lambda draws: exact.sample((draws,), generator=generator)
    relaxed = mvhg.MultivariateHypergeometricStraightThrough(
        TEMPERATURE, urn.total_count, sizes, weights, conditionals=conditionals, group_order=order
    )
    return lambda draws: relaxed.rsample((draws,), generator=generator)
