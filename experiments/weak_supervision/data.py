"""Which images and pairs a run sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.common.checks import require_integer
from experiments.common.errors import ExperimentError
from experiments.weak_supervision.factors import FACTORS
from experiments.weak_supervision.images import SOURCES, FactorImages, load_images
from experiments.weak_supervision.networks import require_image_size
from experiments.weak_supervision.pairs import PAIRINGS, PairSampler, require_shared, split_images


@dataclass(frozen=True)
class PairSplits:
    """Images, and samplers of pairs in two splits that share no image."""

    images: FactorImages
    train: PairSampler
    test: PairSampler


class PairData:
    """Pairs of images that share ``shared`` of their seven factors.

    Args:
        source: ``mpi3d_sim``, ``mpi3d_toy``, ``mpi3d_realistic`` or ``mpi3d_real``.
        image_size: 64, or 32 for means of 2 x 2 pixels.
        levels: colours and shapes that are kept, 4 or 6; null for all.
        positions: of each axis of the arm, a divisor of 40.
        shared: s, in 0..6.
        pairing: ``exact`` or ``published``, see ``PairSampler``.
        test_share: of the images, in (0, 1).
        split_seed: seed of the division, the same for every run: runs differ in training, not in their data.

    Raises:
        ValueError: a setting is not allowed; the message names it.
    """

    def __init__(
        self,
        *,
        source: str,
        image_size: int,
        levels: int | None,
        positions: int,
        shared: int,
        pairing: str,
        test_share: float,
        split_seed: int,
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"data.source must be one of {', '.join(SOURCES)}, got {source!r}")
        require_image_size(image_size)
        require_shared(shared)
        require_integer("data.split_seed", split_seed, 0)
        if pairing not in PAIRINGS:
            raise ValueError(f"data.pairing must be one of {', '.join(PAIRINGS)}, got {pairing!r}")
        self.source = source
        self.image_size = image_size
        self.levels = levels
        self.positions = positions
        self.shared = shared
        self.pairing = pairing
        self.test_share = test_share
        self.split_seed = split_seed

    @property
    def independent(self) -> int:
        """Number of factors that differ, k."""
        return len(FACTORS) - self.shared

    def load_images(self, directory: Path) -> FactorImages:
        """Reads the images from ``directory``, or makes or downloads them.

        Raises:
            ExperimentError: they are missing, damaged or can't be made.
        """
        return load_images(
            self.source,
            levels=self.levels,
            image_size=self.image_size,
            positions=self.positions,
            data_directory=directory,
        )

    def load(self, directory: Path) -> PairSplits:
        """Reads the images and divides them.

        Raises:
            ExperimentError: they are missing, damaged or can't be made, or can't be divided.
        """
        images = self.load_images(directory)
        try:
            split = split_images(images.grid.num_images, self.test_share, self.split_seed)
            samplers = [PairSampler(images.grid, part, self.shared, self.pairing) for part in split]
        except ValueError as error:
            raise ExperimentError(f"{images.name}: {error}") from None
        return PairSplits(images, *samplers)
