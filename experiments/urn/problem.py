"""The urn problem of Appendix B.5.1: group sizes, draws, true weights and the datasets drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mvhg import MultivariateHypergeometric

DATA_LAWS = ("exact", "merged")


class UrnSplits(NamedTuple):
    """Observed counts of every dataset, split by sample."""

    train: Tensor  # [datasets, train samples, groups]
    validation: Tensor  # [datasets, validation samples, groups]


@dataclass(frozen=True, kw_only=True)
class UrnProblem:
    """Datasets of counts drawn from one urn under different weights.

    Dataset d has the weights (1, w, 1, ..., 1) with w = ``second_weights[d]`` (Appendix B.5.1: 1, 2, ..., 10).

    Args:
        group_sizes: elements per group, m.
        total_count: elements drawn, n.
        second_weights: weight of the second group, one dataset for each.
        num_datasets: how many of them to use, from the first on.
        num_samples: samples per dataset.
        train_fraction: share of them for training; the rest is for validation.
        data_law: ``"exact"`` draws from Fisher's law; ``"merged"`` from the product of merged conditionals of Eq. 3
            in the order of the groups, as the generator behind the paper's figures does.

    Raises:
        ValueError: a setting is outside of what is named above.
    """

    group_sizes: Sequence[int]
    total_count: int
    second_weights: Sequence[float]
    num_datasets: int
    num_samples: int
    train_fraction: float
    data_law: str = "exact"

    def __post_init__(self) -> None:
        if len(self.group_sizes) < 2 or any(size < 0 for size in self.group_sizes):
            raise ValueError(f"group_sizes must hold at least two sizes >= 0, got {list(self.group_sizes)}")
        if not 0 <= self.total_count <= sum(self.group_sizes):
            raise ValueError(f"total_count must lie in [0, {sum(self.group_sizes)}], got {self.total_count}")
        if len(self.second_weights) == 0:
            raise ValueError("second_weights must hold at least one weight, got an empty list")
        if not all(0 < weight < float("inf") for weight in self.second_weights):
            raise ValueError(f"second_weights must be positive and finite, got {list(self.second_weights)}")
        if len(set(self.second_weights)) < len(self.second_weights):
            raise ValueError(f"second_weights must be distinct, got {list(self.second_weights)}")
        if not 1 <= self.num_datasets <= len(self.second_weights):
            raise ValueError(f"num_datasets must lie in [1, {len(self.second_weights)}], got {self.num_datasets}")
        object.__setattr__(self, "group_sizes", tuple(self.group_sizes))
        object.__setattr__(self, "second_weights", tuple(self.second_weights[: self.num_datasets]))
        if not 0 < self.num_train < self.num_samples:
            raise ValueError(
                "num_samples and train_fraction must leave samples for training and for validation, got "
                f"{self.num_samples} and {self.train_fraction}, which leaves {self.num_train} for training"
            )
        if self.data_law not in DATA_LAWS:
            raise ValueError(f"data_law must be one of {', '.join(DATA_LAWS)}, got {self.data_law!r}")

    @property
    def num_train(self) -> int:
        """Samples per dataset for training."""
        return round(self.train_fraction * self.num_samples)

    @property
    def true_log_weights(self) -> Tensor:
        """Log weights behind every dataset, [datasets, groups], float64."""
        log_weights = torch.zeros(len(self.second_weights), len(self.group_sizes), dtype=torch.float64)
        log_weights[:, 1] = torch.tensor(self.second_weights, dtype=torch.float64).log()
        return log_weights

    def law(self, log_weights: Tensor, conditionals: str = "exact") -> MultivariateHypergeometric:
        """The law of the counts of this urn under log weights [..., groups]."""
        return MultivariateHypergeometric(
            self.total_count, list(self.group_sizes), log_weights=log_weights, conditionals=conditionals
        )

    def true_moments(self) -> tuple[Tensor, Tensor]:
        """Mean [datasets, groups] of the true laws, and their variance summed over the groups [datasets]."""
        law = self.law(self.true_log_weights)
        return law.mean, law.variance.sum(-1)

    def draw(self, generator: torch.Generator) -> UrnSplits:
        """Draws all datasets, float64 counts, from a CPU generator."""
        law = self.law(self.true_log_weights, self.data_law)
        counts = law.sample((self.num_samples,), generator=generator).transpose(0, 1)  # [datasets, samples, groups]
        return UrnSplits(counts[:, : self.num_train], counts[:, self.num_train :])
