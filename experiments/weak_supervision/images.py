"""The images of the weak-supervision experiment, by factors: one call for every source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.common.errors import ExperimentError
from experiments.weak_supervision import mpi3d, simulation
from experiments.weak_supervision.factors import POSITIONS, FactorGrid
from experiments.weak_supervision.image_file import as_tensor
from experiments.weak_supervision.networks import IMAGE_SIZES
from experiments.weak_supervision.thinning import LEVELS, kept_values, rows_of

SOURCES = ("mpi3d_sim", *mpi3d.SOURCES)


@dataclass(frozen=True)
class FactorImages:
    """Images of all combinations of the factors.

    Args:
        name: the source.
        grid: numbers the images.
        images: uint8 [rows, height, width, 3]; may be a memory map, so never write to it.
        rows: int64 [grid.num_images], where in ``images`` each image of the grid lies; None if both have one order.
    """

    name: str
    grid: FactorGrid
    images: Tensor
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        count = self.images.shape[0] if self.rows is None else self.rows.shape[0]
        if count != self.grid.num_images or self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"{self.grid} needs {self.grid.num_images} images of uint8 [height, width, 3], got {count} of "
                f"{self.images.dtype} {tuple(self.images.shape[1:])}"
            )

    def gather(self, index: Tensor) -> Tensor:
        """Returns the images of some places in the grid.

        Args:
            index: int64 [n] of the grid, on the device of the images.

        Returns:
            uint8 [n, height, width, 3], memory of its own.
        """
        return self.images.index_select(0, index if self.rows is None else self.rows[index])

    def to_memory(self) -> FactorImages:
        """Returns the same images, and no others, in memory and in the order of the grid."""
        images = self.images.clone() if self.rows is None else self.images.index_select(0, self.rows)
        return FactorImages(self.name, self.grid, images)


def load_images(
    source: str, *, levels: int | None, image_size: int, positions: int, data_directory: Path
) -> FactorImages:
    """Loads the images of a source; what is missing is downloaded, converted or rendered first.

    Args:
        source: one of :data:`SOURCES`.
        levels: colours and shapes that are kept: 6, or the 4 of the older mpi3d files; None for all that there are.
        image_size: 64, or 32: means of 2x2 pixels, rounded.
        positions: of each axis of the arm, evenly thinned from 40; a divisor of 40.
        data_directory: the data folder. ``mpi3d_sim`` at 8 positions needs no file in it.

    Raises:
        ExperimentError: a value that isn't on offer; data that are missing, truncated, altered or of another shape; no
            network, no disk space, no renderer.
    """
    if source not in SOURCES:
        raise ExperimentError(f"unknown images {source!r}; there are {', '.join(SOURCES)}")
    if levels not in (None, *LEVELS):
        raise ExperimentError(f"levels must be 4, 6 or null (all that there are), got {levels!r}")
    if image_size not in IMAGE_SIZES:
        raise ExperimentError(f"image_size must be 64 or 32, got {image_size!r}")
    if isinstance(positions, bool) or not isinstance(positions, int) or positions < 1 or POSITIONS % positions:
        allowed = ", ".join(str(number) for number in range(1, POSITIONS + 1) if POSITIONS % number == 0)
        raise ExperimentError(f"positions must divide the {POSITIONS} of an axis: {allowed}; got {positions!r}")
    if source == "mpi3d_sim":
        stored, grid = simulation.load(image_size, positions, data_directory)
        kept = kept_values(grid, levels, grid.sizes[-1])
    else:
        stored, grid = mpi3d.load(source, image_size, data_directory)
        if levels is not None and levels > grid.sizes[0]:
            raise ExperimentError(
                f"levels={levels}, but {source} in {data_directory} is the older file of {grid.sizes[0]} colours and "
                f"shapes: set levels={grid.sizes[0]}, or move it away to download today's"
            )
        kept = kept_values(grid, levels, positions)
    chosen = FactorGrid(tuple(len(values) for values in kept))
    rows = None if chosen == grid else rows_of(grid, kept)
    return FactorImages(source, chosen, as_tensor(stored), rows)
