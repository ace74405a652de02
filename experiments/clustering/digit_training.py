"""Training on digits that lie on the device, and the order in which it takes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from experiments.training import ChunkedTraining

STEPS_PER_CHUNK = 50


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

    def chunks(self, seed: int, steps_per_chunk: int = STEPS_PER_CHUNK) -> DataLoader[Tensor]:
        """Loader of one epoch's order in chunks of index tensors [steps_per_chunk * batch_size]."""
        sampler = _ShuffledChunks(len(self.images), steps_per_chunk * self.batch_size, seed)
        return DataLoader(_Indices(), batch_size=None, sampler=sampler)

    def steps(self, chunk: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in chunk.split(self.batch_size):
            yield self.images.index_select(0, indices).float().div_(255), indices

    def step_loss(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Loss to minimise and the terms to record [terms], for images [batch, pixels] in [0, 1] and their indices."""
        raise NotImplementedError


class _Indices(Dataset[Tensor]):
    """Hands the sampler's indices through: the images lie on the device already."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


class _ShuffledChunks(Sampler[Tensor]):
    """The digits in random order, a function of (seed, epoch) alone: a resumed run sees the order of a whole one."""

    def __init__(self, num_digits: int, chunk_size: int, seed: int) -> None:
        self.num_digits = num_digits
        self.chunk_size = chunk_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        # Seeds of neighbouring runs are far apart, see derive_seed.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.num_digits, generator=generator).split(self.chunk_size)

    def __len__(self) -> int:
        return math.ceil(self.num_digits / self.chunk_size)
