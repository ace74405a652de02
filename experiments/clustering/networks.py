"""The autoencoder of pretraining and of the VaDE: 784-500-500-2000-10 and its mirror (Appendix C.3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def grey(images: Tensor) -> Tensor:
    """Grey values in [0, 1] of uint8 images."""
    return images.float().div_(255)


def linear(inputs: int, outputs: int, generator: torch.Generator, nonlinearity: str = "linear") -> nn.Linear:
    """A layer with He (before a ReLU) or Glorot initialisation and zero biases."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    if nonlinearity == "relu":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    else:
        nn.init.xavier_normal_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class Autoencoder(nn.Module):
    """Fully connected encoder and mirrored decoder; ReLU everywhere but after the embedding and the last layer.

    Args:
        widths: of the encoder from the pixels to the embedding; the decoder mirrors them.
        generator: for the initial weights.
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.encoder = _layers(self.widths, generator)
        self.decoder = _layers(self.widths[::-1], generator)

    def hidden(self, images: Tensor) -> Tensor:
        """Last hidden layer of the encoder, [batch, widths[-2]], for images [batch, widths[0]] in [0, 1]."""
        return _hidden(self.encoder, images)

    def encode(self, images: Tensor) -> Tensor:
        """Embedding, [batch, widths[-1]]."""
        return self.encoder[-1](self.hidden(images))

    def decode(self, embedding: Tensor) -> Tensor:
        """Logits of the pixels, [batch, widths[0]]."""
        return self.decoder[-1](_hidden(self.decoder, embedding))

    @torch.no_grad()
    def turn(self, matrix: Tensor, inverse: Tensor) -> None:
        """Multiplies embeddings by a matrix [widths[-1], widths[-1]]; what is decoded from them stays the same."""
        (weight, bias), (next_weight, _) = self.encoder[-1].parameters(), self.decoder[0].parameters()
        weight.copy_(matrix @ weight)
        bias.copy_(matrix @ bias)
        next_weight.copy_(next_weight @ inverse)


def _layers(widths: Sequence[int], generator: torch.Generator) -> nn.ModuleList:
    shapes = list(pairwise(widths))
    kinds = ["relu"] * (len(shapes) - 1) + ["linear"]
    return nn.ModuleList(linear(*shape, generator, kind) for shape, kind in zip(shapes, kinds))


def _hidden(layers: nn.ModuleList, values: Tensor) -> Tensor:
    for layer in layers[:-1]:
        values = layer(values).relu()
    return values
