"""Training on rows of a tensor that lies on the device, in an order that is a function of seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.shared import on_device
from experiments.training import ChunkedTraining, numbers_loader

STEPS_PER_CHUNK = 50


class RowTraining(ChunkedTraining):
    """Base of trainings whose step takes ``batch_size`` rows of its chunk.

    Args:
        rows: [rows, ...]; in training on the device, where runs that share a process share them.
        batch_size: rows per step.
        noise_seed: seed of everything drawn in training.
        term_names: names of the terms.
    """

    def __init__(self, *, rows: Tensor, batch_size: int, noise_seed: int, term_names: Sequence[str]) -> None:
        steps = math.ceil(len(rows) / batch_size)
        super().__init__(steps_per_epoch=steps, noise_seed=noise_seed, term_names=term_names)
        self.batch_size = batch_size
        self.rows = rows

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.rows = on_device(self.rows, self.device)

    def chunks(self, seed: int, steps_per_chunk: int = STEPS_PER_CHUNK) -> DataLoader[Any]:
        """Loader of the chunks' numbers; the order that ``seed`` gives is drawn anew in every epoch."""
        self.order_seed = seed
        self.chunk_size = steps_per_chunk * self.batch_size
        return numbers_loader(math.ceil(len(self.rows) / self.chunk_size))

    def on_train_epoch_start(self) -> None:
        # Seeds of neighbouring runs are far apart, see derive_seed.
        generator = torch.Generator().manual_seed(self.order_seed + self.current_epoch)
        self.order = torch.randperm(len(self.rows), generator=generator).to(self.device).split(self.chunk_size)

    def steps(self, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the rows of every step [batch, ...] and their indices."""
        for indices in self.order[chunk].split(self.batch_size):
            yield self.rows.index_select(0, indices), indices
