"""What the denoising autoencoder has to undo."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


class Corruption:
    """Sets pixels to zero and, for images, turns, shifts and scales them a little.

    Args:
        dropout: probability with which a value is set to zero; the others are scaled up.
        rotation: largest angle in degrees, either way.
        shift: largest shift as a share of the image's side, either way and along both axes.
        scale: largest relative change of the size of a pixel, either way: images are divided by 1 - scale to 1 + scale.

    Raises:
        ValueError: a setting is negative, or a dropout or scale of 1 or more.
    """

    def __init__(self, *, dropout: float = 0.0, rotation: float = 0.0, shift: float = 0.0, scale: float = 0.0) -> None:
        for name, value in (("dropout", dropout), ("scale", scale)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")
        for name, value in (("rotation", rotation), ("shift", shift)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        self.dropout = dropout
        self.rotation = math.radians(rotation)
        self.shift = shift
        self.scale = scale

    def drop(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Dropout with a generator of its own, for values of any shape."""
        if self.dropout == 0:
            return values
        kept = torch.empty_like(values, dtype=torch.float32).uniform_(generator=generator) >= self.dropout
        return values * kept / (1 - self.dropout)

    def move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Turns, shifts and scales square images [batch, side * side], each by a draw of its own."""
        if self.rotation == self.shift == self.scale == 0:
            return images
        side = math.isqrt(images.shape[-1])
        uniform = torch.empty(4, len(images), device=images.device).uniform_(-1, 1, generator=generator)
        angle, size = uniform[0] * self.rotation, 1 + uniform[1] * self.scale
        # Coordinates run from -1 to 1: a whole side is 2.
        rows = [
            torch.stack([size * angle.cos(), -size * angle.sin(), uniform[2] * 2 * self.shift], -1),
            torch.stack([size * angle.sin(), size * angle.cos(), uniform[3] * 2 * self.shift], -1),
        ]
        with torch.autocast(images.device.type, enabled=False):  # half precision would move pixels
            grid = affine_grid(torch.stack(rows, 1), [len(images), 1, side, side], align_corners=False)
        square = images.reshape(-1, 1, side, side)
        return grid_sample(square, grid, align_corners=False).reshape(images.shape)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Both, for images [batch, side * side]."""
        return self.drop(self.move(images, generator), generator)
