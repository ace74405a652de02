"""Training on digits that lie on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from experiments.common.chunked import ChunkedTraining


class DigitTraining(ChunkedTraining):
    """Base of the models here; a chunk is a tensor of indices, and a step takes ``batch_size`` of them.

    Args:
        images: [digits, pixels] uint8; they move to the device with the module.
        batch_size: digits per step.
        noise_seed: seed of everything drawn in training.
        term_names: names of the terms.
    """

    images: Tensor

    def __init__(self, *, images: Tensor, batch_size: int, noise_seed: int, term_names: Sequence[str]) -> None:
        steps = math.ceil(len(images) / batch_size)
        super().__init__(steps_per_epoch=steps, noise_seed=noise_seed, term_names=term_names)
        self.batch_size = batch_size
        self.register_buffer("images", images, persistent=False)

    def steps(self, chunk: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in chunk.split(self.batch_size):
            yield self.images.index_select(0, indices).float().div_(255), indices

    def step_loss(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Loss to minimise and the terms to record [terms], for images [batch, pixels] in [0, 1] and their indices."""
        raise NotImplementedError
