"""The sampler beside the authors' code over urns, batches and temperatures: selection masks, forward and backward.

One favourable case says nothing: users have small urns and small batches, and every annealing starts above 1.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

import mvhg
from experiments.settings import PositiveInt, settings
from experiments.speed.measure import in_turns, median_ratio, memory_growth_mib

MOST_MASKS = 9e7  # entries of the authors' masks, beyond which they take gigabytes


@settings
class Grid:
    """What is measured.

    Attributes:
        urns: Group sizes and total count.
        batches: Laws at once, each with weights of its own.
        temperatures: Of the relaxation.
        rounds: How often the sides take turns in a cell.
    """

    urns: tuple[tuple[tuple[int, ...], int], ...] = (
        ((10, 10), 10),
        ((3, 5, 4), 5),
        ((10,) * 10, 50),
        ((200,) * 3, 180),
        ((128,) * 10, 128),
    )
    batches: tuple[int, ...] = (1, 64, 512)
    temperatures: tuple[float, ...] = (0.1, 0.5, 2.0, 10.0)
    rounds: PositiveInt = 7


@dataclass(frozen=True)
class Cell:
    """One urn at one batch size and temperature."""

    group_sizes: tuple[int, ...]
    total_count: int
    batch: int
    temperature: float

    @property
    def urn(self) -> str:
        """In words, such as "m = 10 x 2, n = 10"."""
        sizes = self.group_sizes
        text = f"{sizes[0]} x {len(sizes)}" if len(set(sizes)) == 1 else ", ".join(map(str, sizes))
        return f"m = {text}, n = {self.total_count}"

    def log_weights(self) -> torch.Tensor:
        """Start of both sides, [batch, c]."""
        return 0.5 * torch.randn(self.batch, len(self.group_sizes), generator=torch.Generator().manual_seed(1))


def cells(grid: Grid) -> Iterator[Cell]:
    """Yields the cells that fit in memory on the authors' side."""
    for sizes, total in grid.urns:
        for batch in grid.batches:
            if batch * len(sizes) * max(sizes) ** 2 <= MOST_MASKS:
                for temperature in grid.temperatures:
                    yield Cell(tuple(sizes), total, batch, temperature)


def ours(cell: Cell) -> Callable[[], object]:
    """A distribution with new log weights, one draw each with masks, forward and backward."""
    start, sizes = cell.log_weights(), list(cell.group_sizes)

    def call() -> object:
        log_weights = start.clone().requires_grad_(True)
        law = mvhg.MultivariateHypergeometricStraightThrough(
            cell.temperature, cell.total_count, sizes, log_weights=log_weights
        )
        return law.rsample_selection().prefix_mask.square().sum().backward()

    return call


def authors(cell: Cell, sampler: Callable[..., Any]) -> Callable[[], object]:
    """The same work through their sampler."""
    start, sizes = cell.log_weights(), torch.tensor(cell.group_sizes)
    total = torch.full((cell.batch, 1), cell.total_count)

    def call() -> object:
        log_weights = start.clone().requires_grad_(True)
        masks = sampler(sizes, total, log_weights, cell.temperature)[2]
        return sum((mask**2).sum() for mask in masks).backward()

    return call


def measure_grid(grid: Grid, sampler: Callable[..., Any] | None, log: Callable[[str], None]) -> pd.DataFrame:
    """Measures every cell on one thread.

    Args:
        grid: The cells.
        sampler: The authors'; None: ours alone.
        log: Takes a line per cell.

    Returns:
        A line per cell: urn, groups, batch, temperature, milliseconds and MiB of both sides, and ratios theirs / ours.
    """
    lines = []
    for cell in cells(grid):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the order of the authors' classes comes from NumPy's global state
        sides = {"ours": ours(cell)} | ({"authors": authors(cell, sampler)} if sampler else {})
        seconds = in_turns(sides, grid.rounds)
        memory = {name: memory_growth_mib(call) for name, call in sides.items()}
        line: dict[str, Any] = {"urn": cell.urn, "groups": len(cell.group_sizes), "batch": cell.batch}
        line |= {"temperature": cell.temperature}
        line |= {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
        line |= {f"{name}_mib": value for name, value in memory.items()}
        if sampler:
            line["ratio"] = median_ratio(seconds["authors"], seconds["ours"])
        lines.append(line)
        beside = f", authors {line['authors_ms']:.2f} ms, ratio {line['ratio']:.1f}" if sampler else ""
        log(f"{cell.urn}, batch {cell.batch}, temperature {cell.temperature:g}: {line['ours_ms']:.2f} ms{beside}")
    return pd.DataFrame(lines)
