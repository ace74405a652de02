"""Measures what a learned prior does on blobs of sizes 10:1, which are known: whether it finds them, what it gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims.comparison import compare
from experiments.claims.rules import Measurement, measure
from experiments.clustering.blocks import prior_in_words
from experiments.clustering.recovery import size_errors
from experiments.results import Block, blocks, read_metrics

FILE = "clustering_control_metrics.csv"
SIZES = "10"  # percent left of half of the blobs


def known_sizes(metrics: Path) -> list[Measurement]:
    """Each learned prior at each overlap, on test digits cut like the training digits."""
    text = {"version": str}
    lines, weights = (
        read_metrics(metrics, f"clustering_control_{name}", dtype=text) for name in ("metrics", "weights")
    )
    lines = lines[(lines["version"] == SIZES) & (lines["stage"] == "vade") & (lines["split"] == "test_subsampled")]
    words = [prior_in_words(axes) for axes in lines.to_dict("records")]
    lines = lines.assign(prior=words, error=lines["run_id"].map(size_errors(weights)))
    measured = []
    for block in blocks(lines, ("blobs",)):
        for overlap, cell in block.lines.groupby("overlap"):
            uniform = cell[cell["prior"] == "uniform"]
            for prior, runs in cell[cell["prior"] != "uniform"].groupby("prior"):
                more = {"fills": {"prior": prior, "overlap": overlap}, "part": f"{prior}, overlap {overlap} %"}
                measured += [_sizes(block, runs, more), _gain(block, runs, uniform, more)]
    return measured


def _sizes(block: Block, runs: pd.DataFrame, more: dict[str, Any]) -> Measurement:
    """The mean over the clusters of how far a weight is from the size, in every seed."""
    errors = runs.sort_values("seed")["error"]
    text = "by seed " + " ".join(f"{100 * one:.1f}" for one in errors) + " %"
    values, short = [(float(one), 1.0) for one in errors], f"{100 * errors.max():.0f} %"
    return measure("known_sizes", block, runs, FILE, text, values, seeds=runs["seed"].nunique(), short=short, **more)


def _gain(block: Block, runs: pd.DataFrame, uniform: pd.DataFrame, more: dict[str, Any]) -> Measurement:
    found = compare({f"the {more['fills']['prior']} prior": runs, "the uniform prior": uniform}, "accuracy")
    ((mean, error),) = found.differences.values()
    text, rule = f"{100 * mean:+.2f} points, standard error {100 * error:.2f}", "known_sizes_gain"
    more = {**more, "missing": found.missing(rule), "short": f"{100 * mean:+.1f} points"}
    return measure(rule, block, found.lines, FILE, text, found.judged, **more)
