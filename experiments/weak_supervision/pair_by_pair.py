"""What a method says of k pair by pair, which no constant does, and of the set where a latent stands for a factor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor
from torch.nn.functional import one_hot

from experiments.weak_supervision.evaluation import Evaluated

ASSIGNED = 0.5  # of a latent's variance, explained by a factor: more than all others together


def pair_columns(train: Evaluated, test: Evaluated, random: bool) -> dict[str, Any]:
    """Rank correlations with k, where pairs differ in it, and the accuracy of the shared set.

    Args:
        train: what may be fitted to.
        test: what is judged.
        random: whether each pair shares another number of factors; NaN where not.

    Returns:
        ``rank_correlation`` of E[k-hat]; ``taught_rank_correlation`` of ``taught_count``, what the representation holds
        of k; ``pixel_rank_correlation`` of the pixels that change, what the images say without a model;
        ``assigned_factors`` and ``shared_set_accuracy``.
    """
    correlations = dict.fromkeys(("rank_correlation", "taught_rank_correlation", "pixel_rank_correlation"), math.nan)
    if random:
        estimates = test.expected_count, taught_count(train, test), test.changed_pixels
        correlations = {name: rank_correlation(one, test.true_count) for name, one in zip(correlations, estimates)}
    assigned = assigned_latents(train)
    accuracy = shared_set_accuracy(test, assigned)
    return {**correlations, "assigned_factors": len(assigned), "shared_set_accuracy": accuracy}


def taught_count(train: Evaluated, test: Evaluated) -> Tensor:
    """Estimates of k, [test pairs], by a reader of the same posteriors that is taught k, which no method here is.

    Boosted trees, of how far apart the two posterior means of each latent are.
    """

    def distances(pairs: Evaluated) -> Any:
        return (pairs.means[:, 0] - pairs.means[:, 1]).abs().numpy()

    trees = HistGradientBoostingRegressor(early_stopping=False)
    trees.fit(distances(train), train.true_count.numpy())
    return torch.from_numpy(trees.predict(distances(test)))


def rank_correlation(estimate: Tensor, true_count: Tensor) -> float:
    """Spearman's, of an estimate [pairs] with the factors that differ [pairs]; 0 for an estimate without ranks."""
    if estimate.unique().numel() < 2 or true_count.unique().numel() < 2:
        return 0.0
    return float(spearmanr(estimate, true_count).statistic)


def confusion(evaluated: Evaluated) -> pd.DataFrame:
    """How often each E[k-hat], rounded, goes with each number of factors that differ.

    Returns:
        A line per true and estimated number: ``true_count``, ``estimated_count``, ``pairs``, and ``mean``, E[k-hat]
        over all pairs of that true number.
    """
    table = pd.DataFrame({
        "true_count": evaluated.true_count.int().numpy(),
        "estimated_count": evaluated.expected_count.round().int().numpy(),
        "mean": evaluated.expected_count.numpy(),
    })  # fmt: skip
    means = table.groupby("true_count")["mean"].mean()
    pairs = table.groupby(["true_count", "estimated_count"]).size().rename("pairs").reset_index()
    return pairs.assign(mean=pairs["true_count"].map(means))


def assigned_latents(evaluated: Evaluated) -> dict[int, int]:
    """Factor -> the latent of whose variance, before aggregation, it explains most, and at least ``ASSIGNED``."""
    means = evaluated.means.flatten(0, 1).double()  # [images, latents]
    factors = evaluated.encoded.factors.flatten(0, 1)  # [images, factors]
    total = means.var(0, correction=0).clamp(min=torch.finfo(torch.float64).tiny)
    found = {}
    for factor in range(factors.shape[1]):
        values = one_hot(factors[:, factor]).double()  # [images, values]
        sizes = values.sum(0).clamp(min=1)
        between = (values.T @ means / sizes.unsqueeze(-1) - means.mean(0)).square()
        explained, latent = (sizes @ between / len(means) / total * evaluated.active).max(0)
        if explained >= ASSIGNED:
            found[factor] = int(latent)
    return found


def shared_set_accuracy(evaluated: Evaluated, assigned: Mapping[int, int]) -> float:
    """Balanced accuracy of "shared" by the latent of each assigned factor, averaged; NaN where none could be wrong."""
    accuracies = []
    for factor, latent in assigned.items():
        true, guess = evaluated.encoded.shared_factors[:, factor], ~evaluated.independent[:, latent]
        if true.any() and not true.all():
            accuracies.append(0.5 * (guess[true].double().mean() + (~guess[~true]).double().mean()).item())
    return sum(accuracies) / len(accuracies) if accuracies else math.nan
