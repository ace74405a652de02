"""Images that lie on a grid of generative factors, and batches of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.shared import Same, Shared

log = logging.getLogger("experiments")
_PART = 2048  # images halved at a time


@dataclass(frozen=True)
class FactorGrid:
    """Row-major numbering of all combinations of the factors' values: the last factor varies fastest.

    Args:
        names: of the factors.
        sizes: number of values of each.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def num_images(self) -> int:
        """Number of combinations."""
        return math.prod(self.sizes)

    @property
    def _strides(self) -> list[int]:
        return [math.prod(self.sizes[position + 1 :]) for position in range(len(self.sizes))]

    def index_of(self, factors: Tensor) -> Tensor:
        """Returns the image that shows given values.

        Args:
            factors: int64 [..., factors], each in ``0..size - 1`` of its factor; out of range is not looked for.

        Returns:
            int64 [...], on the device of the input.
        """
        return (factors * factors.new_tensor(self._strides)).sum(dim=-1)

    def factors_of(self, index: Tensor) -> Tensor:
        """Returns the values that an image shows; the inverse of :meth:`index_of`.

        Args:
            index: int64 [...], in ``0..num_images - 1``; out of range is not looked for.

        Returns:
            int64 [..., factors], on the device of the input.
        """
        strides, sizes = index.new_tensor(self._strides), index.new_tensor(self.sizes)
        return torch.div(index.unsqueeze(-1), strides, rounding_mode="floor") % sizes


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
                f"{self.grid.sizes} need {self.grid.num_images} images of uint8 [height, width, 3], got {count} of "
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

    def halved(self) -> FactorImages:
        """Returns images of half the side in memory, in the grid's order: means of 2x2 pixels, rounded, halves up."""
        log.info("  %s: halves %d images", self.name, self.grid.num_images)
        index, side = torch.arange(self.grid.num_images), self.images.shape[1] // 2
        images = torch.empty(len(index), side, side, 3, dtype=torch.uint8)
        for part in index.split(_PART):
            images[part] = torch.from_numpy(halve(self.gather(part).numpy()))
        return FactorImages(self.name, self.grid, images)

    def placed(self, device: torch.device) -> FactorImages:
        """Returns all images on a GPU where they take at most half of its free memory; else where they are.

        Runs that share a process share them.
        """
        return self if device.type == "cpu" else _PLACED.get((Same(self), device), lambda: self._copied(device))

    def _copied(self, device: torch.device) -> FactorImages:
        size, free = math.prod(self.images.shape[1:]) * self.grid.num_images, torch.cuda.mem_get_info(device)[0]
        if 2 * size > free:
            log.warning(
                "  %s: images of %.1f GB, more than half of the %.1f GB that are free on the GPU; they stay on the "
                "host, and every batch is copied",
                self.name,
                size / 1e9,
                free / 1e9,
            )
            return FactorImages(self.name, self.grid, self.images, self.rows)
        images = self.images if self.rows is None else self.images.index_select(0, self.rows)
        return FactorImages(self.name, self.grid, images.to(device))


_PLACED: Shared[FactorImages] = Shared()


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns images [..., side / 2, side / 2, 3] of 2x2 means, rounded, halves up."""
    rows = images[..., 0::2, :, :].astype(np.uint16)
    rows += images[..., 1::2, :, :]
    total = rows[..., 0::2, :] + rows[..., 1::2, :]
    total += 2
    total >>= 2
    return total.astype(np.uint8)


def load_batch(images: FactorImages, index: Tensor, device: torch.device) -> Tensor:
    """Images [2 * pairs, 3, height, width] in [0, 1] of pairs [2, pairs], channels last in memory, on a device."""
    batch = images.gather(index.flatten().to(images.images.device)).to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float().div_(255)
