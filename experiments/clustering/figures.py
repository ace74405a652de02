"""The room's figures: Figure 3, what happened over the epochs, and pictures of single runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.clustering.blocks import PRIORS, WEIGHTED, Block, paired, read_blocks
from experiments.clustering.pictures import figure_confusion, figure_digits
from experiments.figures import add_caption, legend_above, look
from experiments.results import ordered

CONTROL = "control: clusters' shares, uniform prior"
PERCENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g} %")


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws the room's figures, by name: of every profile, data set and recipe.

    The data stand in a name where they are not the profile's own: figure_3_quick_vade, figure_3_quick_mnist_n2d.

    Raises:
        ExperimentError: there is no run.
    """
    drawn = {
        "figure_3": figure_3,
        "clustering_confusion": figure_confusion,
        "clustering_digits": figure_digits,
        "clustering_history": figure_history,
    }
    blocks = read_blocks(metrics)
    return {f"{name}_{block.suffix}": partial(make, block) for block in blocks for name, make in drawn.items()}


def figure_3(block: Block) -> Figure:
    """Frequencies of the classes beside what the hypergeometric law learned, and what needs no learned weights."""
    block.table("weights", WEIGHTED)  # without any there is nothing to compare
    weights = block.table("weights", [*WEIGHTED, "uniform"])
    weights = paired(weights[weights["matched_class"] >= 0])
    raw = np.exp(weights["log_weight"])
    weights = weights.assign(raw=raw / raw.groupby(weights["run_id"]).transform("sum", min_count=1))
    uniform = weights["prior"] == "uniform"
    weights.loc[uniform, "learned_frequency"] = weights.loc[uniform, "train_fraction"]
    labels = {"uniform": CONTROL, **WEIGHTED}
    shown = {prior: label for prior, label in labels.items() if (weights["prior"] == prior).any()}

    def panel(ax: Axes, part: pd.DataFrame, quantity: str) -> None:
        truth = part.groupby("matched_class")["true_frequency"].mean()
        ax.bar(truth.index, truth, width=0.86, color="0.85", edgecolor="0.55", label="true class", zorder=0)
        for position, (prior, label) in enumerate(shown.items()):
            offset = 0.2 * (position - (len(shown) - 1) / 2)
            values = part[part["prior"] == prior].dropna(subset=quantity).groupby("matched_class")[quantity]
            if len(values):
                _range(ax, values, offset, style(prior, block), label)
        ax.yaxis.set_major_formatter(PERCENT)
        ax.grid(False, axis="x")
        ax.set_xticks(range(10))

    quantities = {"learned_frequency": r"frequency, $E[x_k]\,/\,n$", "raw": r"frequency, $\omega_k\,/\,\sum\,\omega$"}
    merged = " (merged: the exact law with those weights)" if any("merged" in prior for prior in shown) else ""
    control = ", and as a control the share of the digits that a cluster holds under the uniform prior"
    caption = (
        "Figure 3: true class frequencies of the training digits and weights of the hypergeometric prior, learned from "
        "equal ones; clusters matched to classes as for the accuracy. Above: the share of a batch that the learned law "
        f"expects{merged}{control if 'uniform' in shown else ''}; below: the weights themselves, divided by their sum. "
        "Marks: mean over the seeds, bars: smallest and largest."
    )
    legend = ["true class", *shown.values()]
    return _grid(block, weights, panel, quantities, "digit", legend, len(legend), caption, height=5.2, sharey=True)


def figure_history(block: Block) -> Figure:
    """Bound and test accuracy over the epochs for every prior and dataset version."""
    history = paired(block.table("history"))
    priors = ordered(history["prior"], PRIORS)
    starts = block.scores(stage="start")  # none in an older table
    starts = starts[starts["run_id"].isin(history["run_id"])].groupby("version")["accuracy"].mean()

    def panel(ax: Axes, part: pd.DataFrame, quantity: str) -> None:
        for prior in priors:
            lines = part[part["prior"] == prior]
            if len(lines):
                _band(ax, lines, quantity, style(prior, block), prior)
        if quantity == "test_accuracy":
            ax.axhline(starts.get(part["version"].iloc[0], np.nan), color="0.4", linewidth=0.9, linestyle=":", zorder=0)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.yaxis.set_major_formatter(PERCENT)

    quantities = {"elbo": "ELBO of the training digits (nats)", "test_accuracy": "test accuracy"}
    caption = (
        "Evidence lower bound and test accuracy over the epochs (dotted: of the start); lines: mean over the seeds, "
        "bands: smallest and largest. The hypergeometric prior and its merged form score the counts of a batch, not "
        "the assignments: their bounds cannot be compared with the others in level. The accuracy is kept for the "
        "record; no run or epoch was chosen by it."
    )
    columns = min(3, len(priors))
    return _grid(block, history, panel, quantities, "epoch", priors, columns, caption, height=5.4, sharey="row")


def style(prior: str, block: Block) -> dict[str, Any]:
    """Colour, marker and line of a prior: the known ones have their own in every figure."""
    return look(prior, dict.fromkeys([*PRIORS, *block.priors]))


def _grid(
    block: Block,
    lines: pd.DataFrame,
    panel: Callable[[Axes, pd.DataFrame, str], None],
    quantities: Mapping[str, str],
    below: str,
    legend: list[str],
    legend_columns: int,
    caption: str,
    height: float,
    sharey: Any,
) -> Figure:
    """A column per version and a row per quantity (column of the lines -> label), each drawn by ``panel``."""
    versions = {key: name for key, name in block.versions.items() if (lines["version"] == key).any()}
    size = (1.2 + 3.1 * len(versions), height)
    figure, axes = plt.subplots(len(quantities), len(versions), figsize=size, sharex=True, sharey=sharey, squeeze=False)
    for column, (version, name) in enumerate(versions.items()):
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel(below)
        for row, quantity in enumerate(quantities):
            panel(axes[row, column], lines[lines["version"] == version], quantity)
    for ax, label in zip(axes[:, 0], quantities.values(), strict=True):
        ax.set_ylabel(label)
    found = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    handles = [found[label] for label in legend]
    legend_above(figure, (handles, legend), legend_columns)
    add_caption(figure, f"{caption} {block.described(lines)}")
    return figure


def _range(ax: Axes, values: Any, offset: float, look: Mapping[str, Any], label: str) -> None:
    """Mean over the seeds with a bar from the smallest to the largest; values grouped by class."""
    mean, low, high = values.mean(), values.min(), values.max()
    marks = {**look, "linestyle": "", "markeredgecolor": "black", "markeredgewidth": 0.5}
    errors = [(mean - low).clip(lower=0), (high - mean).clip(lower=0)]  # rounding of equal values
    ax.errorbar(mean.index + offset, mean, yerr=errors, elinewidth=1.1, capsize=1.8, label=label, **marks)


def _band(ax: Axes, lines: pd.DataFrame, quantity: str, look: Mapping[str, Any], label: str) -> None:
    """Mean over the seeds and a band from the smallest to the largest; epochs without a value are left out."""
    by_epoch = lines.dropna(subset=quantity).groupby("epoch")[quantity]
    mean, every = by_epoch.mean(), max(1, by_epoch.ngroups // 6)
    ax.fill_between(mean.index, by_epoch.min(), by_epoch.max(), color=look["color"], alpha=0.15, linewidth=0)
    ax.plot(mean.index, mean, label=label, markevery=every, **look)
