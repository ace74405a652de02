"""The seven generative factors of mpi3d and the grid that its images lie on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from experiments.common.checks import require_integer

FACTORS = ("colour", "shape", "size", "camera_height", "background", "horizontal_axis", "vertical_axis")
POSITIONS = 40  # of each axis of the arm, in the full grid


class FactorGrid:
    """Row-major numbering of all combinations of the factors' values: the last factor varies fastest.

    Args:
        sizes: number of values of each factor, in the order of :data:`FACTORS`.

    Raises:
        ValueError: not one positive integer per factor.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        if len(sizes) != len(FACTORS):
            raise ValueError(f"sizes must hold one number for each of {', '.join(FACTORS)}, got {sizes!r}")
        for name, size in zip(FACTORS, sizes):
            require_integer(f"size of {name}", size, 1)
        self.sizes = tuple(sizes)
        self.num_images = math.prod(self.sizes)
        self._strides = tuple(math.prod(self.sizes[position + 1 :]) for position in range(len(self.sizes)))

    def index_of(self, factors: Tensor) -> Tensor:
        """Returns the image that shows given values.

        Args:
            factors: int64 [..., 7], each in ``0..size - 1`` of its factor; out of range is not looked for.

        Returns:
            int64 [...], on the device of the input.
        """
        return (factors * factors.new_tensor(self._strides)).sum(dim=-1)

    def factors_of(self, index: Tensor) -> Tensor:
        """Returns the values that an image shows; the inverse of :meth:`index_of`.

        Args:
            index: int64 [...], in ``0..num_images - 1``; out of range is not looked for.

        Returns:
            int64 [..., 7], on the device of the input.
        """
        strides, sizes = index.new_tensor(self._strides), index.new_tensor(self.sizes)
        return torch.div(index.unsqueeze(-1), strides, rounding_mode="floor") % sizes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FactorGrid) and self.sizes == other.sizes

    def __hash__(self) -> int:
        return hash(self.sizes)

    def __repr__(self) -> str:
        return f"FactorGrid({self.sizes})"
