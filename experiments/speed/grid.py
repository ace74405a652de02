"""The sampler beside the authors' code over urns, batches and temperatures: selection masks, forward and backward.

One favourable case says nothing: users have small urns and small batches, and every annealing starts above 1.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

import mvhg
from experiments.settings import PositiveInt, settings
from experiments.speed.calls import Urn
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


class Cell(NamedTuple):
    """An urn at one batch size and temperature."""

    urn: Urn
    temperature: float


def cells(grid: Grid) -> Iterator[Cell]:
    """Yields the cells that fit in memory on the authors' side."""
    for sizes, total in grid.urns:
        for batch in grid.batches:
            if batch * len(sizes) * max(sizes) ** 2 <= MOST_MASKS:
                for temperature in grid.temperatures:
                    yield Cell(Urn(tuple(sizes), total, (batch,)), temperature)


def ours(cell: Cell) -> Callable[[], object]:
    """A distribution with new log weights, one draw each with masks, forward and backward."""
    urn, start = cell.urn, cell.urn.log_weights(0.5).float()

    def call() -> object:
        log_weights = start.clone().requires_grad_(True)
        law = mvhg.MultivariateHypergeometricStraightThrough(
            cell.temperature, urn.total_count, urn.group_sizes, log_weights=log_weights
        )
        return law.rsample_selection().prefix_mask.square().sum().backward()

    return call


def authors(cell: Cell, sampler: Callable[..., Any]) -> Callable[[], object]:
    """The same work through their sampler."""
    start, sizes = cell.urn.log_weights(0.5).float(), torch.tensor(cell.urn.group_sizes)
    total = torch.full((*cell.urn.batch, 1), cell.urn.total_count)

    def call() -> object:
        log_weights = start.clone().requires_grad_(True)
        masks = sampler(sizes, total, log_weights, cell.temperature)[2]
        return sum((mask**2).sum() for mask in masks).backward()

    return call


def measure_grid(grid: Grid, sampler: Callable[..., Any] | None) -> Iterator[dict[str, Any]]:
    """Measures every cell on one thread.

    Args:
        grid: The cells.
        sampler: The authors'; None: ours alone.

    Yields:
        A line per cell: urn, groups, batch, temperature, milliseconds and MiB of both sides, and ratios theirs / ours.
    """
    for cell in cells(grid):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - the order of the authors' classes comes from NumPy's global state
        sides = {"ours": ours(cell)} | ({"authors": authors(cell, sampler)} if sampler else {})
        seconds = in_turns(sides, grid.rounds)
        memory = {name: memory_growth_mib(call) for name, call in sides.items()}
        urn = cell.urn
        line: dict[str, Any] = {"urn": urn.name, "groups": len(urn.group_sizes), "batch": urn.batch[0]}
        line |= {"temperature": cell.temperature}
        line |= {f"{name}_ms": 1e3 * statistics.median(values) for name, values in seconds.items()}
        line |= {f"{name}_mib": value for name, value in memory.items()}
        yield line | ({"ratio": median_ratio(seconds["authors"], seconds["ours"])} if sampler else {})
