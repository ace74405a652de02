"""The data sets and their generative factors, by name; who only reads results loads no images, and no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from experiments.weak_supervision.data.images import FactorImages

# Of mpi3d and its stand-in.
FACTORS = ("colour", "shape", "size", "camera_height", "background", "horizontal_axis", "vertical_axis")
POSITIONS = 40  # stored of each axis


class Source(NamedTuple):
    """A data set. A new one is a module that loads it, and a line in :data:`SOURCES`.

    Attributes:
        words: how it is called; a stand-in is never called by the name of what it stands for.
        load: (image_size, levels, positions, data folder) -> its images; raises an ExperimentError where it can't.
        factors: names of the generative factors.
        positions: stored of each axis of the arm, of which a run keeps a divisor; 0: there is no arm.
    """

    words: str
    load: Callable[[int, int | None, int, Path], FactorImages]
    factors: tuple[str, ...] = FACTORS
    positions: int = 0

    @property
    def kept_positions(self) -> list[int]:
        """Numbers of positions to which the stored ones can be thinned evenly; one would leave the axis no factor."""
        return [number for number in range(2, self.positions + 1) if self.positions % number == 0]


def _mpi3d(name: str, image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    from experiments.weak_supervision.data import mpi3d

    return mpi3d.load(name, image_size, levels, positions, directory)


def _mpi3d_sim(image_size: int, levels: int | None, positions: int, directory: Path) -> FactorImages:
    from experiments.weak_supervision.data import mpi3d_sim

    return mpi3d_sim.load(image_size, levels, positions, directory)


SOURCES = {  # from the paper's own
    "mpi3d_toy": Source("mpi3d (toy)", partial(_mpi3d, "mpi3d_toy"), positions=POSITIONS),
    "mpi3d_realistic": Source("mpi3d (realistic)", partial(_mpi3d, "mpi3d_realistic"), positions=POSITIONS),
    "mpi3d_real": Source("mpi3d (real)", partial(_mpi3d, "mpi3d_real"), positions=POSITIONS),
    "mpi3d_sim": Source("mpi3d_sim, a rendered stand-in", _mpi3d_sim, positions=POSITIONS),
}
