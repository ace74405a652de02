"""Figures 7 and 8 and the recovery figure of the urn experiment, from the collected metrics.

Figure 7: training and validation loss over the steps. Figure 8: estimated log weights over the steps. Both show the
paper's merged conditionals above the exact ones, with the truth at the right edge. The recovery figure shows how far
from the truth every estimator ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.figures import add_caption, legend_above, look, shades
from experiments.results import describe_seeds, read_largest
from experiments.urn.tables import ESTIMATORS, lines_of, shown

TRAINED = {"merged": "merged conditionals (paper)", "exact": "exact conditionals (ours)"}
URN = r"$m = (200, 200, 200)$, $n = 180$, $\omega_{gt} = (1, \omega_{gt,2}, 1)$"


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure from a folder of collected metrics, by the name of its file.

    The curves are of the lowest seed with curves, the recovery is a mean over all.

    Raises:
        ExperimentError: there are no such metrics.
    """
    lines, weights, history = (read_largest(metrics, f"urn_{name}") for name in ("metrics", "weights", "history"))
    history, *first = (table[table["seed"] == history["seed"].min()] for table in (history, lines, weights))
    return {
        "figure_7": partial(figure_7, history, first[0]),
        "figure_8": partial(figure_8, history, first[1]),
        "urn_recovery": partial(figure_recovery, lines, weights),
    }


def figure_7(history: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Losses over the steps, with the loss at the true weights at the right edge."""
    losses = {"train_loss": "training loss", "validation_loss": "validation loss"}
    figure, axes, colours = _curves(history, losses, "squared loss, Eq. 43", figsize=(8.4, 5.6), sharey=True)
    for ax, (name, _) in zip(axes.flat, product(TRAINED, losses)):
        ax.set_yscale("log")
        for line in lines_of(metrics, name).itertuples():
            style = {"color": colours[line.second_weight], "markersize": 9, "markeredgewidth": 1.5}
            value = line.expected_squared_loss_truth
            ax.plot(1.03, value, marker="_", clip_on=False, transform=ax.get_yaxis_transform(), **style)
    mark = Line2D([], [], marker="_", color="0.4", linestyle="", markersize=9, markeredgewidth=1.5)
    legend_above(figure, ([mark], ["expected loss of exact samples at the true weights"]), 1)
    caption = (
        f"Figure 7: losses of the urn over the steps; {URN}. Training loss: mean over the steps since the last point. "
        f"{_source(history)}"
    )
    add_caption(figure, caption)
    return figure


def figure_8(history: pd.DataFrame, weights: pd.DataFrame) -> Figure:
    """Log weights over the steps; at the right, truth and maximum likelihood at the scale where the run ends."""
    groups = sorted(weights["group"].unique())
    titles = {f"log_weight_{group}": rf"$\log\,\omega_{group}$" for group in groups}
    figure, axes, colours = _curves(history, titles, "estimated log weight", figsize=(9.6, 6.4), sharey="col")
    likelihood = lines_of(weights, "maximum_likelihood").set_index(["second_weight", "group"])["log_weight_centred"]
    for ax, (name, group) in zip(axes.flat, product(TRAINED, groups)):
        ends = lines_of(weights, name)
        for end in ends[ends["group"] == group].itertuples():
            scale = end.log_weight - end.log_weight_centred
            # x in shares of the panel, y in data units
            style = {"color": colours[end.second_weight], "transform": ax.get_yaxis_transform(), "clip_on": False}
            ax.plot(1.04, end.log_weight_true_centred + scale, marker="<", markersize=5, **style)
            ax.plot(1.10, likelihood[end.second_weight, group] + scale, marker="+", markersize=7, **style)
    marks = [Line2D([], [], marker=marker, color="0.4", linestyle="", markersize=6) for marker in "<+"]
    legend_above(figure, (marks, ["truth", "exact maximum likelihood"]), 2)
    caption = (
        f"Figure 8: estimated log weights over the steps; {URN}. The law does not depend on the scale of the weights; "
        f"truth and maximum likelihood are shown at the scale where each run ends. {_source(history)}"
    )
    add_caption(figure, caption)
    return figure


def _curves(
    history: pd.DataFrame, quantities: Mapping[str, str], label: str, **panels: Any
) -> tuple[Figure, Any, dict[float, Any]]:
    """Draws a row of panels per conditionals, a column per quantity, with one colour per dataset and a bar of them."""
    datasets = sorted(history["second_weight"].unique())
    colours = shades(datasets)
    figure, axes = plt.subplots(2, len(quantities), sharex=True, **panels)
    for ax, ((name, title), quantity) in zip(axes.flat, product(TRAINED.items(), quantities)):
        for weight, curve in lines_of(history, name).groupby("second_weight"):
            ax.plot(curve["step"], curve[quantity], color=colours[weight])
        ax.set_title(f"{quantities[quantity]}, {title}")
        ax.set_xlim(0, history["step"].max())
        ax.xaxis.set_major_locator(MaxNLocator(4))
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    for ax in axes[1]:
        ax.set_xlabel("training step")
    norm = BoundaryNorm(np.arange(len(datasets) + 1) - 0.5, len(datasets))
    fields = ScalarMappable(norm, ListedColormap(list(colours.values())))
    bar = figure.colorbar(fields, ax=axes, ticks=range(len(datasets)), fraction=0.03, pad=0.03)
    bar.ax.set_yticklabels([f"{weight:g}" for weight in datasets])
    bar.ax.set_title(r"$\omega_{gt,2}$")
    bar.ax.grid(False)
    return figure, axes, colours


def figure_recovery(metrics: pd.DataFrame, weights: pd.DataFrame) -> Figure:
    """Error of the log odds of group 2 against groups 1 and 3, and of all log weights in standard errors."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 4.0))
    for name in shown(metrics):
        label = ESTIMATORS.get(name, name)
        style = look(name, dict.fromkeys([*ESTIMATORS, *shown(metrics)])) | {"fillstyle": "none"}
        table = lines_of(weights, name)
        mean = table.groupby(["second_weight", "group"])[["log_weight_centred"]].mean().unstack()["log_weight_centred"]
        for ax, other in zip(axes, (1, 3), strict=False):
            ax.plot(np.log(mean.index), mean[2] - mean[other], label=label, **style)
        errors = lines_of(metrics, name).groupby("second_weight")["rmse_standard_errors"].mean()
        axes[2].plot(errors.index, errors.where(errors > 0), **style)
    limits = np.log([metrics["second_weight"].min(), metrics["second_weight"].max()])
    for ax, other in zip(axes, (1, 3), strict=False):
        ax.plot(limits, limits, color="0.6", linewidth=5, alpha=0.5, zorder=0, label="truth")
        ax.set_xlabel(rf"true $\log(\omega_2 / \omega_{other})$")
        ax.set_title(rf"recovered $\log(\omega_2 / \omega_{other})$")
    axes[2].axhline(1, color="0.6", linewidth=1)
    axes[2].set_yscale("log")
    axes[2].set_xlabel(r"true $\omega_2$")
    axes[2].set_title("error of the log weights in standard errors")
    legend_above(figure, axes[0].get_legend_handles_labels(), 3)
    caption = (
        f"Recovered weights of the urn; {URN}. Right: root mean square over the groups, scale removed, in units of the "
        "standard errors of the maximum-likelihood fit on the same training samples (zero is not shown). The merged "
        "conditionals take the groups in the order 1, 2, 3. "
        f"{_source(metrics)}"
    )
    add_caption(figure, caption)
    return figure


def _source(table: pd.DataFrame) -> str:
    return f"Profile {table['profile'].iloc[0]}, {describe_seeds(table)}."
