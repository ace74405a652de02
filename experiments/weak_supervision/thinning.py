"""Which values of the factors are kept: the four colours and shapes of the older files, and fewer positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.weak_supervision.factors import FACTORS, FactorGrid

LEVELS = (4, 6)
# The older files hold four of today's six, in this order.
OLD_COLOURS = (1, 2, 3, 4)  # green, red, blue, brown
OLD_SHAPES = (0, 1, 3, 5)  # cone, cube, hexagonal, sphere


def thinned(count: int, kept: int) -> range:
    """Returns evenly spaced ones of ``count`` positions, as far from both ends; ``kept`` divides ``count``."""
    step = count // kept
    return range(step // 2, count, step)


def kept_values(grid: FactorGrid, levels: int | None, positions: int) -> list[Sequence[int]]:
    """Returns the values of each factor that are kept.

    Args:
        grid: of all images; with 4 or 6 colours and shapes.
        levels: colours and shapes that are kept; None or as many as there are: all.
        positions: of each axis that are kept.
    """
    kept: list[Sequence[int]] = [range(size) for size in grid.sizes]
    if levels is not None and levels < grid.sizes[0]:
        kept[FACTORS.index("colour")], kept[FACTORS.index("shape")] = OLD_COLOURS, OLD_SHAPES
    for axis in (FACTORS.index("horizontal_axis"), FACTORS.index("vertical_axis")):
        kept[axis] = thinned(grid.sizes[axis], positions)
    return kept


def rows_of(grid: FactorGrid, kept: Sequence[Sequence[int]]) -> Tensor:
    """Returns where the images with kept values lie: int64 [their number], row-major in the kept values."""
    return grid.index_of(torch.cartesian_prod(*(torch.tensor(values) for values in kept)))
