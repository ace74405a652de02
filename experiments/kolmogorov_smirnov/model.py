"""Sampling as a Lightning pipeline without training: batches under ``Trainer.test``, counted by a metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric

import mvhg
from experiments.kolmogorov_smirnov.series import Urn

Draw = Callable[[int], Tensor]
TEMPERATURE = 0.5  # the hard counts do not depend on it


class CountHistogram(Metric):
    """How often each group held each number of elements, for several urns.

    The histogram of integers is the whole sample: its cumulative sum is the exact empirical distribution function.

    Args:
        urns: Number of urns.
        groups: Number of groups.
        max_count: Largest count that can occur.
    """

    full_state_update = False
    counts: Tensor  # [urns, groups, max_count + 1]

    def __init__(self, urns: int, groups: int, max_count: int) -> None:
        super().__init__()
        self.groups, self.width = groups, max_count + 1
        zeros = torch.zeros(urns, groups, self.width, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum", persistent=True)

    def update(self, urn: int, counts: Tensor) -> None:
        """Adds draws of one urn: integer counts [draws, groups]."""
        offsets = torch.arange(self.groups, device=counts.device) * self.width  # each group has its own row of bins
        bins = torch.bincount((counts.long() + offsets).flatten(), minlength=self.groups * self.width)
        self.counts[urn] += bins.view(self.groups, self.width)

    def compute(self) -> Tensor:
        """Returns the histograms [urns, groups, max_count + 1]."""
        return self.counts


class SamplingModel(pl.LightningModule):
    """Draws from each urn and counts; has nothing to train.

    Args:
        urns: The urns.
        conditionals: ``exact`` or ``merged`` (the paper's; groups in the order 0, 1, 2, ...).
        sampler: ``sample`` (the distribution's own) or ``straight_through`` (the differentiable one's hard counts).
        generator: Gives a random source for (urn, device).
    """

    def __init__(
        self,
        urns: Sequence[Urn],
        conditionals: str,
        sampler: str,
        generator: Callable[[int, torch.device], torch.Generator],
    ) -> None:
        super().__init__()
        self.urns, self.conditionals, self.sampler = urns, conditionals, sampler
        self.generator = generator
        largest = max(max(urn.group_sizes) for urn in urns)
        self.histogram = CountHistogram(len(urns), len(urns[0].group_sizes), largest)
        self._current: tuple[int, Draw] | None = None  # the urn being drawn from, its tables and random state

    def test_step(self, batch: tuple[int, int], batch_idx: int) -> None:
        """Draws one batch: batch is (index of the urn, number of draws)."""
        index, draws = batch
        if self._current is None or self._current[0] != index:
            self._current = (index, self._sampler(index))
        counts = self._current[1](draws)  # [draws, groups]
        urn = self.urns[index]
        sizes = torch.tensor(urn.group_sizes, device=counts.device)
        if not bool(((counts.sum(-1) == urn.total_count) & ((counts >= 0) & (counts <= sizes)).all(-1)).all()):
            raise RuntimeError(f"the sampler left the support of {urn}")
        self.histogram.update(index, counts)

    def _sampler(self, index: int) -> Draw:
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

    def finished(self, draws: int) -> list[bool]:
        """Returns for each urn whether it has all its draws."""
        return [bool(total >= draws) for total in self.histogram.counts[:, 0].sum(-1)]


def work(urns: Sequence[int], draws: int, batch_size: int) -> DataLoader[tuple[int, int]]:
    """Returns a loader of what is to be done, (urn, number of draws) pairs, urn after urn."""
    full, rest = divmod(draws, batch_size)
    batches = [batch_size] * full + [rest] * (rest > 0)
    pairs = [(urn, size) for urn in urns for size in batches]
    return DataLoader(cast(Dataset[tuple[int, int]], pairs), batch_size=None)


class SaveFinishedUrns(pl.Callback):
    """Saves a checkpoint whenever an urn has all its draws: an interrupted run continues with the next urn.

    Args:
        path: Of the checkpoint.
        draws: Of every urn.
        done: Urns that have them already.
    """

    def __init__(self, path: str, draws: int, done: int) -> None:
        self.path, self.draws, self.done = path, draws, done

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object, **__: object) -> None:
        assert isinstance(pl_module, SamplingModel)
        done = sum(pl_module.finished(self.draws))
        if done > self.done:
            trainer.save_checkpoint(self.path)
            self.done = done
