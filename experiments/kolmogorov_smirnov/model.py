"""Sampling as a Lightning pipeline without training: an urn per batch under ``Trainer.test``, counted in histograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

import mvhg
from experiments.kolmogorov_smirnov.series import Urn

TEMPERATURE = 0.5  # the hard counts do not depend on it


class SamplingModel(pl.LightningModule):
    """Draws from each urn and counts; has nothing to train.

    The histogram of integers is the whole sample: its cumulative sum is the exact empirical distribution function.
    After every urn a checkpoint is saved: an interrupted run continues with the next one.

    Args:
        urns: The urns.
        conditionals: ``exact`` or ``merged`` (the paper's; groups in the order 0, 1, 2, ...).
        sampler: ``sample`` (the distribution's own) or ``straight_through`` (the differentiable one's hard counts).
        draws: Draws per urn.
        batch_size: Draws at a time.
        generator: Gives a random source for (index of the urn, device).
        checkpoint: Path of the checkpoint.
    """

    counts: Tensor  # [urns, groups, largest count + 1]: how often each group held each number of elements

    def __init__(
        self,
        urns: Sequence[Urn],
        conditionals: str,
        sampler: str,
        draws: int,
        batch_size: int,
        generator: Callable[[int, torch.device], torch.Generator],
        checkpoint: Path,
    ) -> None:
        super().__init__()
        self.urns, self.conditionals, self.sampler = urns, conditionals, sampler
        self.draws, self.batch_size = draws, batch_size
        self.generator, self.checkpoint = generator, checkpoint
        values = max(max(urn.group_sizes) for urn in urns) + 1
        shape = len(urns), len(urns[0].group_sizes), values
        self.register_buffer("counts", torch.zeros(shape, dtype=torch.int64))

    def missing(self) -> list[int]:
        """Returns the indices of the urns that have not been drawn from."""
        return (self.counts[:, 0].sum(-1) < self.draws).nonzero().flatten().tolist()

    def test_step(self, index: int, batch_idx: int) -> None:
        urn, draw = self.urns[index], self._sampler(index)
        sizes = torch.tensor(urn.group_sizes, device=self.device)
        groups, values = self.counts.shape[1:]
        offsets = torch.arange(groups, device=self.device) * values  # each group has its own row of bins
        for start in range(0, self.draws, self.batch_size):
            counts = draw(min(self.batch_size, self.draws - start))  # [draws, groups]
            if not bool(((counts.sum(-1) == urn.total_count) & ((counts >= 0) & (counts <= sizes)).all(-1)).all()):
                raise RuntimeError(f"the sampler left the support of {urn}")
            bins = torch.bincount((counts.long() + offsets).flatten(), minlength=groups * values)
            self.counts[index] += bins.view(groups, values)

    def on_test_batch_end(self, *_: object) -> None:
        self.trainer.save_checkpoint(self.checkpoint)

    def _sampler(self, index: int) -> Callable[[int], Tensor]:
        urn, generator = self.urns[index], self.generator(index, self.device)
        sizes = torch.tensor(urn.group_sizes, device=self.device)
        weights = torch.tensor(urn.weights, dtype=torch.float32, device=self.device)
        order = tuple(range(len(urn.weights))) if self.conditionals == "merged" else None
        if self.sampler == "sample":
            exact = mvhg.MultivariateHypergeometric(
                urn.total_count, sizes, weights, conditionals=self.conditionals, group_order=order
            )
            return lambda draws: exact.sample((draws,), generator=generator)
        relaxed = mvhg.MultivariateHypergeometricStraightThrough(
            TEMPERATURE, urn.total_count, sizes, weights, conditionals=self.conditionals, group_order=order
        )
        return lambda draws: relaxed.rsample((draws,), generator=generator)
