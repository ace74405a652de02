"""What the denoising autoencoder has to undo."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from experiments.settings import NonNegative, settings

DropoutRate = Annotated[float, Field(ge=0, lt=1)]


def drop(values: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Dropout with a generator of its own, for values of any shape."""
    if rate == 0:
        return values
    kept = torch.empty_like(values, dtype=torch.float32).uniform_(generator=generator) >= rate
    return values * kept / (1 - rate)


@settings
class Corruption:
    """Turns and shifts images a little, and sets pixels to zero.

    Attributes:
        dropout: probability with which a value is set to zero; the others are scaled up.
        rotation: largest angle in degrees, either way.
        shift: largest shift as a share of the image's side, either way and along both axes.
    """

    dropout: DropoutRate = 0.0
    rotation: NonNegative = 0.0
    shift: NonNegative = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Does both to images [batch, side * side]."""
        return drop(self.move(images, generator), self.dropout, generator)

    def move(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Turns and shifts square images [batch, side * side], each by a draw of its own."""
        if self.rotation == self.shift == 0:
            return images
        side = math.isqrt(images.shape[-1])
        # Four draws, of which the second is not used: runs keep the numbers that they had when it changed the size.
        uniform = torch.empty(4, len(images), device=images.device).uniform_(-1, 1, generator=generator)
        angle = uniform[0] * math.radians(self.rotation)
        # Coordinates run from -1 to 1: a whole side is 2.
        across, down = uniform[2:] * 2 * self.shift
        rows = [
            torch.stack([angle.cos(), -angle.sin(), across], -1),
            torch.stack([angle.sin(), angle.cos(), down], -1),
        ]
        with torch.autocast(images.device.type, enabled=False):  # half precision would move pixels
            grid = affine_grid(torch.stack(rows, 1), [len(images), 1, side, side], align_corners=False)
        square = images.reshape(-1, 1, side, side)
        return grid_sample(square, grid, align_corners=False).reshape(images.shape)
