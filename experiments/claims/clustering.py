"""Measures the claims about clustering (Section 5.3, Appendix C; Table 2, Figure 3) on every profile and data set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.clustering.blocks import Block, read_blocks
from experiments.clustering.recovery import recovery
from experiments.verdicts.rules import Measurement, too_few

VERSIONS = {"60": "60 %", "80": "80 %", "full": "full data"}
FILE = "clustering_metrics.csv"
HOUR = 3600.0
PUBLISHED = 94.46  # percent, of VaDE's authors


def _scores(block: Block, prior: str, version: str | None = None) -> pd.DataFrame:
    """Test scores after training, a line per run."""
    scores = block.scores()
    chosen = scores["prior"] == prior
    return scores[chosen if version is None else chosen & (scores["version"] == version)]


def _measured(
    block: Block, rule: str, text: str, values: list[tuple[float, float]], runs: pd.DataFrame, seeds: int, **more: str
) -> Measurement:
    missing = too_few(rule, seeds)
    return Measurement(
        rule,
        text if seeds else missing,
        [] if missing else values,
        runs,
        FILE,
        block.profile,
        block.data,
        {name: value for name, value in more.items() if name in ("other", "version")},
        part=", ".join(more[name] for name in ("other", "version") if name in more),
        short=more.get("short", "") if seeds else "",
        difference=more.get("difference", "-"),
        missing=missing,
    )


def pair(block: Block, rule: str, better: str, worse: str, version: str) -> Measurement:
    """The mean paired difference of the test accuracy of two priors on the same seeds."""
    parts = [_scores(block, prior, version) for prior in (better, worse)]
    columns = [part.set_index("seed")["accuracy"].sort_index() for part in parts]
    pairs = pd.concat(columns, axis=1, join="inner")
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    runs = pd.concat(parts)
    runs = runs[runs["seed"].isin(pairs.index)]
    mean, error = float(differences.mean()), float(differences.sem())
    noise = " (no difference, by two of them)" if abs(mean) < 2 * error else ""
    text = f"{100 * mean:+.2f} points, standard error {100 * error:.2f}{noise}"
    if len(differences) == 1:
        text = f"{100 * mean:+.2f} points"
    short = f"{100 * mean:+.2f} points"
    fills = {"other": worse, "version": VERSIONS[version], "short": short}
    return _measured(block, rule, text, [(mean, error)], runs, len(differences), **fills)


def learned_weights(block: Block) -> Measurement:
    """Figure 3; a run whose learned frequencies are all equal has learned no order and counts as 0."""
    weights = block.table("weights")
    part = weights[(weights["prior"] == "hypergeometric") & (weights["version"] == "60")]
    if part.empty:
        return _measured(block, "figure_3", "no run", [], part.iloc[:0], 0)
    runs = recovery(part)
    correlations = runs.loc[runs["estimate"] == "learned_frequency", "rank_correlation"].fillna(0.0)
    mean = float(correlations.mean())
    text = f"{mean:.2f}, lowest {correlations.min():.2f}"
    scores = _scores(block, "hypergeometric", "60")
    return _measured(block, "figure_3", text, [(mean, 1.0)], scores, len(correlations), short=f"{mean:.2f}")


def level(block: Block) -> Measurement:
    """The version on which the hypergeometric prior does worst."""
    scores = _scores(block, "hypergeometric")
    means = scores.groupby("version")["accuracy"].mean()
    seeds = int(scores.groupby("version")["seed"].nunique().min()) if len(means) == len(VERSIONS) else 0
    lowest = float(means.min()) if len(means) else 0.0
    text = ", ".join(f"{VERSIONS.get(version, version)} {100 * mean:.1f} %" for version, mean in means.items())
    return _measured(block, "table_2_level", text, [(lowest, 1.0)], scores, seeds, short=f"{100 * lowest:.1f} %")


def published_accuracy(block: Block) -> Measurement:
    """The class of result that is published for this model."""
    scores = _scores(block, "uniform", "full")
    median = float(scores["accuracy"].median())
    text = "no run" if scores.empty else f"{100 * median:.1f} %, {int(scores['epochs'].min())} epochs"
    difference = "-" if scores.empty else f"{100 * median - PUBLISHED:+.1f} points"
    values, seeds = [(median, 1.0)], len(scores)
    short = f"{100 * median:.1f} %"
    return _measured(block, "published_accuracy", text, values, scores, seeds, short=short, difference=difference)


def hours(block: Block) -> Measurement:
    """How long a run takes."""
    scores = _scores(block, "hypergeometric")
    median = scores["seconds"].median() / HOUR
    known = scores["seconds"].notna().any()
    text = f"{median:.2f} hours" if known else "no run without interruption"
    values = [(median, 1.0)] if known else []
    return _measured(
        block, "clustering_time", text, values, scores, len(scores), short=f"{median:.2f} h" if known else ""
    )


def clustering(metrics: Path) -> list[Measurement]:
    """Section 5.3, each profile and data set by itself."""
    measured = []
    for block in read_blocks(metrics):
        for version in VERSIONS:
            for other in ("uniform", "categorical"):
                measured.append(pair(block, "table_2_order", "hypergeometric", other, version))
        measured += [pair(block, "table_2_categorical", "uniform", "categorical", version) for version in ("80", "60")]
        measured += [level(block), learned_weights(block), published_accuracy(block), hours(block)]
    return measured
