"""Lightning data module of the urn: each training sample holds one sample of every dataset."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from experiments.urn.problem import UrnSplits


class UrnDataModule(pl.LightningDataModule):
    """Serves batches [batch, datasets, groups] of float32 counts.

    Args:
        splits: observed counts of every dataset.
        batch_size: training samples per step and dataset; validation uses one batch.
        shuffle_seed: seed of the order of the training samples, or None to keep the order in which they were drawn.
    """

    def __init__(self, splits: UrnSplits, batch_size: int, shuffle_seed: int | None) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.train, self.validation = (_by_sample(counts) for counts in splits)
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        sampler: DistributedSampler[tuple[Tensor, ...]] | None = None
        if self.shuffle_seed is not None:
            # Used with a single replica: its order is a function of (seed, epoch) alone, so that a resumed run
            # sees the same order as an uninterrupted one. Lightning tells it the epoch.
            sampler = DistributedSampler(self.train, num_replicas=1, rank=0, shuffle=True, seed=self.shuffle_seed)
        return DataLoader(self.train, batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.validation, batch_size=len(self.validation))


def _by_sample(counts: Tensor) -> TensorDataset:
    return TensorDataset(counts.transpose(0, 1).contiguous().to(torch.float32))
