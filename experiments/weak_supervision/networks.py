"""Encoder and decoder of disentanglement_lib, for images of 64 x 64 pixels; with one stage fewer for 32 x 32."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ImageSize = Literal[64, 32]  # pixels a side
_HIDDEN = 256
_GRID = 4  # pixels a side where convolutions meet the dense layers
# (channels, kernel) of convolutions and channels of transposed convolutions; the last of these are the image's own.
_ENCODER: dict[ImageSize, tuple[tuple[int, int], ...]] = {
    64: ((32, 4), (32, 4), (64, 2), (64, 2)),
    32: ((32, 4), (32, 4), (64, 2)),
}
_DECODER: dict[ImageSize, tuple[int, ...]] = {64: (64, 32, 32), 32: (32, 32)}


def initialise(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, TensorFlow's default and so the published code's."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)


def _halving(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution that halves the image as TensorFlow's padding "SAME" does for an even size."""
    return nn.Conv2d(inputs, outputs, kernel, stride=2, padding=(kernel - 2) // 2)


class Encoder(nn.Module):
    """Images to the parameters of a normal posterior with independent latents.

    Args:
        num_latents: d.
        image_size: pixels a side.
        channels: of the images.
    """

    def __init__(self, num_latents: int, image_size: ImageSize, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for outputs, kernel in _ENCODER[image_size]:
            layers += [_halving(channels, outputs, kernel), nn.ReLU(inplace=True)]
            channels = outputs
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * _GRID**2, _HIDDEN)
        self.heads = nn.Linear(_HIDDEN, 2 * num_latents)
        initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each [batch, latents], for images [batch, channels, height, width] in [0, 1]."""
        features = self.convolutions(images).flatten(1)
        mean, log_variance = self.heads(torch.relu(self.hidden(features))).chunk(2, dim=-1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents to the logits of the pixels' Bernoulli laws.

    Args:
        num_latents: d.
        image_size: pixels a side.
        channels: of the images.
    """

    def __init__(self, num_latents: int, image_size: ImageSize, channels: int = 3) -> None:
        super().__init__()
        width = 64
        self.dense = nn.Sequential(
            nn.Linear(num_latents, _HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(_HIDDEN, width * _GRID**2),
            nn.ReLU(inplace=True),
        )
        layers: list[nn.Module] = [nn.Unflatten(1, (width, _GRID, _GRID))]
        for outputs in _DECODER[image_size]:
            layers += [nn.ConvTranspose2d(width, outputs, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
            width = outputs
        layers.append(nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1))
        self.convolutions = nn.Sequential(*layers)
        initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        """Logits [batch, channels, height, width] for latents [batch, latents]."""
        logits: Tensor = self.convolutions(self.dense(latents))
        return logits
