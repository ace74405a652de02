"""A model's representation of a grid of images, in the form that disentanglement_lib's metrics sample from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from experiments.weak_supervision.data.images import FactorGrid

Integers = npt.NDArray[np.int64]


class GridRepresentations:
    """Ground-truth data whose observations are numbers of images, and a representation that looks them up.

    Every image is encoded once, beforehand: the metrics draw two million.

    Args:
        grid: the factors of the images.
        means: [images, latents], posterior mean of every image, in the grid's order.

    Raises:
        ValueError: not one finite encoding for every image, one latent alone, or a factor with one value alone.
    """

    def __init__(self, grid: FactorGrid, means: Tensor) -> None:
        if means.ndim != 2 or len(means) != grid.num_images or means.shape[1] < 2:
            raise ValueError(f"means must be [{grid.num_images}, latents], two at least, got {list(means.shape)}")
        if not means.isfinite().all():
            raise ValueError("means must be finite")
        single = [name for name, size in zip(grid.names, grid.sizes) if size < 2]
        if single:
            raise ValueError(f"every factor must have two values to be told apart, but not so {', '.join(single)}")
        self._sizes = np.array(grid.sizes)
        self._means: npt.NDArray[Any] = means.detach().double().cpu().numpy()

    def represent(self, observations: Integers) -> npt.NDArray[Any]:
        """Posterior means [num, latents] of images given by their numbers."""
        return self._means[observations]

    @property
    def num_factors(self) -> int:
        """Number of generative factors."""
        return len(self._sizes)

    def sample_factors(self, num: int, random_state: np.random.RandomState) -> Integers:
        """Draws values of all factors uniformly, int64 [num, factors]."""
        return random_state.randint(self._sizes, size=(num, self.num_factors), dtype=np.int64)

    def sample_observations_from_factors(self, factors: Integers, random_state: np.random.RandomState) -> Integers:
        """Numbers of the images that show given values, int64 [num]; nothing is random about it."""
        return np.ravel_multi_index(tuple(factors.T), tuple(self._sizes))

    def sample(self, num: int, random_state: np.random.RandomState) -> tuple[Integers, Integers]:
        """Draws values, and the images that show them."""
        factors = self.sample_factors(num, random_state)
        return factors, self.sample_observations_from_factors(factors, random_state)

    def sample_observations(self, num: int, random_state: np.random.RandomState) -> Integers:
        """Draws images."""
        return self.sample(num, random_state)[1]
