"""Which images and pairs a run sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from experiments.settings import ExperimentError, NonNegativeInt, PositiveInt, Seed, settings
from experiments.shared import Shared
from experiments.weak_supervision.data.images import FactorImages
from experiments.weak_supervision.data.pairs import Pairing, PairSampler, Random, check_pairing, split_images
from experiments.weak_supervision.data.sources import SOURCES

_IMAGES: Shared[FactorImages] = Shared()


@dataclass(frozen=True)
class PairSplits:
    """Images, and samplers of pairs in two splits that share no image."""

    images: FactorImages
    train: PairSampler
    test: PairSampler


@settings
class PairData:
    """Pairs of images that share ``shared`` of their generative factors.

    Attributes:
        source: one of ``SOURCES``.
        image_size: 64, or 32 for means of 2 x 2 pixels, rounded.
        levels: colours and shapes that are kept: the 4 of the older mpi3d files; null for all that there are.
        positions: of each axis of the arm, evenly thinned from 40; a divisor of 40.
        shared: s, less than the number of factors; ``random``: of each pair another.
        pairing: see ``PairSampler``.
        test_share: of the images.
        split_seed: seed of the division, the same for every run: runs differ in training, not in their data.
    """

    source: str
    image_size: Literal[64, 32]
    levels: Literal[4] | None
    positions: PositiveInt
    shared: NonNegativeInt | Random
    pairing: Pairing
    test_share: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {self.source!r}")
        if (kept := SOURCES[self.source].kept_positions) and self.positions not in kept:
            allowed = f"one of {', '.join(map(str, kept))}, of an axis' {kept[-1]}"
            raise ValueError(f"positions must be {allowed}; got {self.positions}")
        check_pairing(self.shared, self.pairing, len(self.factors))

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the generative factors."""
        return SOURCES[self.source].factors

    def load_images(self, directory: Path) -> FactorImages:
        """Reads the images from ``directory``, or makes or downloads them.

        Raises:
            ExperimentError: they are missing, truncated, altered or of another shape; no network, no disk space.
        """
        key = self.source, self.image_size, self.levels, self.positions, directory
        return _IMAGES.get(key, lambda: SOURCES[self.source].load(*key[1:]))

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
