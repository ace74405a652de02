"""The urn problem of Appendix B.5.1: datasets drawn under known weights, and how far recovered ones are from these."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal, NamedTuple

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from experiments.settings import ExperimentError, Positive, PositiveInt, Share, settings
from mvhg import MultivariateHypergeometric, fit_weights

DATA_STREAM = 0  # of the run's seed: every estimator sees the same datasets under the same seed


class UrnSplits(NamedTuple):
    """Observed counts of every dataset, split by sample."""

    train: Tensor  # [datasets, train samples, groups]
    validation: Tensor  # [datasets, validation samples, groups]


@settings
class UrnProblem:
    """Datasets of counts drawn from one urn under different weights.

    Dataset d has the weights (1, w, 1, ..., 1) with w = ``second_weights[d]`` (Appendix B.5.1: 1, 2, ..., 10).

    Attributes:
        group_sizes: Elements per group, m.
        total_count: Elements drawn, n.
        second_weights: Weight of the second group, one dataset for each.
        num_datasets: How many of them to use, from the first on.
        num_samples: Samples per dataset.
        train_fraction: Share of them for training; the rest is for validation.
        data_law: ``exact`` draws from Fisher's law; ``merged`` from the product of merged conditionals of Eq. 3 in the
            order of the groups, as the generator behind the paper's figures does.
    """

    group_sizes: Annotated[list[PositiveInt], Field(min_length=2)]
    total_count: PositiveInt
    second_weights: Annotated[list[PositiveInt | Positive], Field(min_length=1)]
    num_datasets: PositiveInt
    num_samples: PositiveInt
    train_fraction: Share
    data_law: Literal["exact", "merged"] = "exact"

    def __post_init__(self) -> None:
        if self.total_count >= sum(self.group_sizes):  # what is left says as much of the weights as what is drawn
            raise ValueError(f"total_count must lie in [1, {sum(self.group_sizes) - 1}], got {self.total_count}")
        if len(set(self.second_weights)) < len(self.second_weights):
            raise ValueError(f"second_weights must be distinct, got {self.second_weights}")
        if self.num_datasets > len(self.second_weights):
            raise ValueError(f"num_datasets must lie in [1, {len(self.second_weights)}], got {self.num_datasets}")
        if not 0 < self.num_train < self.num_samples:
            raise ValueError(
                "num_samples and train_fraction must leave samples for training and for validation, got "
                f"{self.num_samples} and {self.train_fraction}, which leaves {self.num_train} for training"
            )

    @property
    def datasets(self) -> list[int | float]:
        """Weight of the second group in every dataset that is used."""
        return self.second_weights[: self.num_datasets]

    @property
    def num_train(self) -> int:
        """Samples per dataset for training."""
        return round(self.train_fraction * self.num_samples)

    @property
    def true_log_weights(self) -> Tensor:
        """Log weights behind every dataset, [datasets, groups], float64."""
        log_weights = torch.zeros(self.num_datasets, len(self.group_sizes), dtype=torch.float64)
        log_weights[:, 1] = torch.tensor(self.datasets, dtype=torch.float64).log()
        return log_weights

    def law(self, log_weights: Tensor, conditionals: str = "exact") -> MultivariateHypergeometric:
        """The law of the counts of this urn under log weights [..., groups]."""
        return MultivariateHypergeometric(
            self.total_count, self.group_sizes, log_weights=log_weights, conditionals=conditionals
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

    def fit(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Fits counts [datasets, samples, groups] by maximum likelihood.

        Returns:
            Log weights and their standard errors, each [datasets, groups].

        Raises:
            ExperimentError: the samples of a dataset leave the weights without a finite maximum.
        """
        fits = []
        for weight, dataset in zip(self.datasets, counts, strict=True):
            try:
                fits.append(fit_weights(dataset, self.group_sizes))
            except ValueError as error:
                raise ExperimentError(
                    f"experiment.problem: the samples of second weight {weight:g} can't be fitted ({error}); more "
                    "num_samples, larger group_sizes or less extreme second_weights can"
                ) from None
        return torch.stack([fit.log_weights for fit in fits]), torch.stack([fit.standard_errors for fit in fits])

    def expected_squared_loss(self, log_weights: Tensor, target_mean: Tensor, target_variance: Tensor) -> Tensor:
        """E|X_D - X|^2 [...] for X from the exact law under log weights [..., groups], differentiable in them.

        The targets are E X_D [..., groups] and the sum over the groups of Var(X_D,c) [...].
        """
        law = self.law(log_weights)
        return target_variance + law.variance.sum(-1) + (law.mean - target_mean).square().sum(-1)

    def recovery(self, log_weights: Tensor, standard_errors: Tensor) -> dict[str, pd.DataFrame]:
        """Compares estimates with the truth.

        Args:
            log_weights: Estimates, [datasets, groups], at any scale.
            standard_errors: Of the maximum-likelihood fit of the training part, the natural unit of an error; alike.

        Returns:
            ``metrics``, a line per dataset: ``second_weight``; ``rmse``, the root mean square over the groups of the
            error of the centred log weights; ``rmse_standard_errors``, the same with every error divided by its
            standard error; ``expected_squared_loss`` of the estimate under the exact law against samples of the true
            law, and ``expected_squared_loss_truth``, the same at the true weights.
            ``weights``, a line per dataset and group: ``log_weight`` as estimated, then centred truth, centred estimate
            and the standard error.
        """
        estimate, truth = log_weights.detach().to("cpu", torch.float64), self.true_log_weights
        errors = centred(estimate) - centred(truth)
        target = self.true_moments()
        metrics = pd.DataFrame(
            {
                "second_weight": self.datasets,
                "rmse": errors.square().mean(-1).sqrt(),
                "rmse_standard_errors": (errors / standard_errors).square().mean(-1).sqrt(),
                "expected_squared_loss": self.expected_squared_loss(estimate, *target),
                "expected_squared_loss_truth": self.expected_squared_loss(truth, *target),
            }
        )
        groups = range(1, len(self.group_sizes) + 1)
        weights = pd.DataFrame(product(self.datasets, groups), columns=["second_weight", "group"]).assign(
            log_weight=estimate.flatten().numpy(),
            log_weight_centred=centred(estimate).flatten().numpy(),
            log_weight_true_centred=centred(truth).flatten().numpy(),
            standard_error=standard_errors.flatten().numpy(),
        )
        return {"metrics": metrics, "weights": weights}


def centred(log_weights: Tensor) -> Tensor:
    """Log weights [..., groups] with mean 0: the law does not depend on the scale of the weights."""
    return log_weights - log_weights.mean(-1, keepdim=True)
