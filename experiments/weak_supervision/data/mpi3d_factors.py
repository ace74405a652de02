"""The seven generative factors of mpi3d and its stand-in, and which of their values a run keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.weak_supervision.data.image_file import as_tensor
from experiments.weak_supervision.data.images import FactorGrid, FactorImages
from experiments.weak_supervision.data.sources import FACTORS

# The older files hold four of today's six, in this order.
OLD_COLOURS = (1, 2, 3, 4)  # green, red, blue, brown
OLD_SHAPES = (0, 1, 3, 5)  # cone, cube, hexagonal, sphere


def thinned(count: int, kept: int) -> range:
    """Returns evenly spaced ones of ``count`` positions, as far from both ends; ``kept`` divides ``count``."""
    step = count // kept
    return range(step // 2, count, step)


def keep(name: str, stored: NDArray[np.uint8], grid: FactorGrid, levels: int | None, positions: int) -> FactorImages:
    """Returns the images whose values are kept; none is copied.

    Args:
        name: the source.
        stored: all images, in the order of the grid.
        grid: with 4 or 6 colours and shapes.
        levels: colours and shapes that are kept; None or as many as there are: all.
        positions: of each axis that are kept.
    """
    kept: list[Sequence[int]] = [range(size) for size in grid.sizes]
    if levels is not None and levels < grid.sizes[0]:
        kept[FACTORS.index("colour")], kept[FACTORS.index("shape")] = OLD_COLOURS, OLD_SHAPES
    for axis in (FACTORS.index("horizontal_axis"), FACTORS.index("vertical_axis")):
        kept[axis] = thinned(grid.sizes[axis], positions)
    chosen = FactorGrid(FACTORS, tuple(len(values) for values in kept))
    rows = None
    if chosen != grid:  # row-major in the kept values
        rows = grid.index_of(torch.cartesian_prod(*(torch.tensor(values) for values in kept)))
    return FactorImages(name, chosen, as_tensor(stored), rows)
