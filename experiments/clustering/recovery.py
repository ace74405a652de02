"""How well learned cluster weights, and the clusters themselves, reflect the frequencies of the classes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from experiments.results import AGAIN
from experiments.settings import ExperimentError

ESTIMATES = {"learned_frequency": "learned weights", "train_fraction": "share of the training digits"}
RUN = ["prior", "version", "seed", "run_id"]
TIED = 1e-6  # frequencies that differ by less are equal: what is left is rounding


def rank_correlation(estimate: pd.Series, truth: pd.Series) -> float:
    """Spearman's rank correlation; NaN where one side is constant and has no order."""
    if min(np.ptp(estimate), np.ptp(truth)) < TIED:
        return math.nan
    return float(spearmanr(estimate, truth).statistic)


def size_errors(weights: pd.DataFrame) -> pd.Series:
    """Mean over the clusters of |learned / true size - 1|, by run id."""
    return (weights["learned_frequency"] / weights["true_frequency"] - 1).abs().groupby(weights["run_id"]).mean()


def recovery(weights: pd.DataFrame) -> pd.DataFrame:
    """Compares the frequencies of the clusters with those of the classes that they are matched to.

    Args:
        weights: lines of the weights table, one per run and cluster. A cluster without a class is left out.

    Returns:
        One line per run and estimate: ``RUN``, ``estimate`` (a key of ``ESTIMATES``), ``rank_correlation``,
        ``mean_absolute_error`` and ``root_mean_square_error`` (fractions).

    Raises:
        ExperimentError: clusters of a run are missing.
    """
    whole = weights.groupby("run_id", sort=False)["train_fraction"].sum()
    if partial := [run for run, total in whole.items() if abs(total - 1) > TIED]:
        raise ExperimentError(f"the weights table lacks clusters of run {partial[0]}, its shares are not 1: {AGAIN}")
    lines = []
    for run, part in weights[weights["matched_class"] >= 0].groupby(RUN, sort=False):
        for estimate in ESTIMATES:
            errors = part[estimate] - part["true_frequency"]
            rank = rank_correlation(part[estimate], part["true_frequency"])
            lines.append([*run, estimate, rank, float(errors.abs().mean()), float(np.sqrt((errors**2).mean()))])
    measures = ["rank_correlation", "mean_absolute_error", "root_mean_square_error"]
    return pd.DataFrame(lines, columns=[*RUN, "estimate", *measures])
