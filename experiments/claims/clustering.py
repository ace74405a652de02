"""Measures the claims about clustering (Section 5.3, Appendix C; Table 2, Figure 3) on every profile and data set."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims.comparison import compare
from experiments.claims.rules import Measurement, too_few
from experiments.clustering.recovery import rank_correlation
from experiments.results import Block, blocks, read_metrics

VERSIONS = {"60": "60 %", "80": "80 %", "full": "full data"}
FILE = "clustering_metrics.csv"
HOUR = 3600.0
PUBLISHED = 94.46  # percent, of VaDE's authors


def clustering(metrics: Path) -> list[Measurement]:
    """Section 5.3, each profile and data set by itself."""
    measured = []
    for block in blocks(_read(metrics, "metrics"), ("mnist",)):  # the paper's data first
        for version in VERSIONS:
            for other in ("uniform", "categorical"):
                measured.append(pair(block, "table_2_order", "hypergeometric", other, version))
        measured += [pair(block, "table_2_categorical", "uniform", "categorical", version) for version in ("80", "60")]
        measured += [level(block), learned_weights(block, metrics), published_accuracy(block), hours(block)]
    return measured


def pair(block: Block, rule: str, better: str, worse: str, version: str) -> Measurement:
    """The mean paired difference of the test accuracy of two priors on the same seeds."""
    priors = {f"the {prior} prior": _scores(block, prior, version) for prior in (better, worse)}
    found = compare(priors, "accuracy")
    fills = {"other": worse, "version": VERSIONS[version]}
    part = f"{worse}, {VERSIONS[version]}"
    if found.values.empty:
        return Measurement(rule, missing=found.missing(rule), block=block, fills=fills, part=part)
    ((mean, error),) = found.differences.values()
    short = f"{100 * mean:+.2f} points"
    noise = " (no difference, by two of them)" if abs(mean) < 2 * error else ""
    text = short if math.isnan(error) else f"{short}, standard error {100 * error:.2f}{noise}"
    more: dict[str, Any] = {"missing": found.missing(rule), "fills": fills, "part": part, "short": short}
    return Measurement(rule, text, [(mean, error)], block, found.lines, FILE, **more)


def level(block: Block) -> Measurement:
    """The version on which the hypergeometric prior does worst."""
    scores = _scores(block, "hypergeometric")
    versions = scores.groupby("version")
    means = versions["accuracy"].mean()
    seeds = int(versions["seed"].nunique().min()) if len(means) == len(VERSIONS) else 0
    lowest = float(means.min()) if len(means) else math.nan
    text = ", ".join(f"{VERSIONS[version]} {100 * mean:.1f} %" for version, mean in means.items())
    return _measured(block, "table_2_level", scores, seeds, text, lowest, f"{100 * lowest:.1f} %")


def learned_weights(block: Block, metrics: Path) -> Measurement:
    """Figure 3; a run whose learned frequencies are all equal has learned no order and counts as 0."""
    scores = _scores(block, "hypergeometric", "60")
    correlations = pd.Series(dtype=float)
    if len(scores):
        weights = _read(metrics, "weights")
        part = weights[weights["run_id"].isin(scores["run_id"]) & (weights["matched_class"] >= 0)]
        found = [rank_correlation(run["learned_frequency"], run["true_frequency"]) for _, run in part.groupby("run_id")]
        correlations = pd.Series(found, dtype=float).fillna(0.0)
    mean = float(correlations.mean())
    text = f"{mean:.2f}, lowest {correlations.min():.2f}"
    return _measured(block, "figure_3", scores, len(correlations), text, mean, f"{mean:.2f}")


def published_accuracy(block: Block) -> Measurement:
    """The class of result that is published for this model."""
    scores = _scores(block, "uniform", "full")
    median = float(scores["accuracy"].median())
    text = f"{100 * median:.1f} %, {scores['epochs'].min():.0f} epochs"
    difference = f"{100 * median - PUBLISHED:+.1f} points"
    short = f"{100 * median:.1f} %"
    return _measured(block, "published_accuracy", scores, len(scores), text, median, short, difference)


def hours(block: Block) -> Measurement:
    """How long a run takes."""
    scores = _scores(block, "hypergeometric")
    median = float(scores["seconds"].median() / HOUR)
    if math.isnan(median) and len(scores):
        return Measurement("clustering_time", "", [], block, scores, FILE, "no run without interruption")
    return _measured(block, "clustering_time", scores, len(scores), f"{median:.2f} hours", median, f"{median:.2f} h")


def _read(metrics: Path, name: str) -> pd.DataFrame:
    """Lines of the dataset versions and the prior that the paper has; of others nothing is said."""
    table = read_metrics(metrics, f"clustering_{name}", dtype={"version": str})
    ours = (table["conditionals"] == "merged") | (table["reading"] == "assignments")
    return table[table["version"].isin(VERSIONS) & ~ours]


def _scores(block: Block, prior: str, version: str | None = None) -> pd.DataFrame:
    """Test scores after training, a line per run."""
    lines = block.lines
    chosen = (lines["split"] == "test") & (lines["stage"] == "vade") & (lines["prior"] == prior)
    return lines[chosen if version is None else chosen & (lines["version"] == version)]


def _measured(
    block: Block, rule: str, lines: pd.DataFrame, seeds: int, text: str, value: float, short: str, difference: str = "-"
) -> Measurement:
    """A single number; without a seed there is none."""
    missing = too_few(rule, seeds)
    if not seeds:
        return Measurement(rule, missing=missing, block=block)
    values = [(value, 1.0)]
    return Measurement(rule, text, values, block, lines, FILE, missing, short=short, difference=difference)
