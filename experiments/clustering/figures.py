"""Figure 3, and what happened over the epochs, of one block of collected metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.clustering.blocks import PRIORS, Block
from experiments.common.collected import describe_seeds
from experiments.common.errors import ExperimentError
from experiments.common.figures import COLOURS, MARKERS, add_caption

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
STYLES: dict[str, dict[str, Any]] = {
    prior: {"color": colour, "marker": marker, "linestyle": line}
    for prior, colour, marker, line in zip(PRIORS, COLOURS, MARKERS, LINES, strict=False)
}
CAPTION = 17.5  # characters per inch
PERCENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g} %")
WEIGHTED = {  # learned weights of Figure 3
    "hypergeometric": "learned, exact law",
    "hypergeometric_merged": "learned, merged conditionals",
    "hypergeometric_assignments": "learned, prior over assignments",
}


def select(block: Block, table: str, priors: Mapping[str, str]) -> pd.DataFrame:
    """Returns a table's lines of some priors.

    Raises:
        ExperimentError: there are none.
    """
    lines = block.table(table)
    lines = lines[lines["prior"].isin(list(priors))]
    if lines.empty:
        raise ExperimentError(f"the metrics hold no run of {' or '.join(priors.values())} at {block.source}")
    return lines


def _range(ax: Axes, values: pd.DataFrame, offset: float, style: Mapping[str, Any], label: str) -> None:
    """Mean over the seeds with a bar from the smallest to the largest; values by class and seed."""
    by_class = values.groupby("matched_class")["value"]
    mean, low, high = by_class.mean(), by_class.min(), by_class.max()
    marks = {**style, "linestyle": "", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.5}
    errors = [mean - low, high - mean]
    ax.errorbar(mean.index + offset, mean, yerr=errors, elinewidth=1.1, capsize=1.8, label=label, **marks)


def figure_3(block: Block) -> Figure:
    """Frequencies of the classes beside those that the learned hypergeometric law expects, and its raw weights."""
    names = {prior: PRIORS[prior] for prior in WEIGHTED}
    weights = select(block, "weights", names)
    weights = weights[weights["matched_class"] >= 0]
    raw = np.exp(weights["log_weight"])
    weights = weights.assign(raw=raw / raw.groupby(weights["run_id"]).transform("sum"))
    versions = {key: name for key, name in block.versions.items() if (weights["version"] == key).any()}
    shown = {prior: label for prior, label in WEIGHTED.items() if (weights["prior"] == prior).any()}
    size = (1.2 + 3.1 * len(versions), 5.2)
    figure, axes = plt.subplots(2, len(versions), figsize=size, sharex=True, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained")
    rows = {"learned_frequency": r"$E[x_k]\,/\,n$", "raw": r"$\omega_k\,/\,\sum\,\omega$"}
    for row, (quantity, label) in enumerate(rows.items()):
        for column, (version, version_name) in enumerate(versions.items()):
            ax: Axes = axes[row, column]
            part = weights[weights["version"] == version]
            truth = part.groupby("matched_class")["true_frequency"].mean()
            ax.bar(truth.index, truth, width=0.86, color="0.85", edgecolor="0.55", label="true class", zorder=0)
            for position, prior in enumerate(shown):
                offset = 0.24 * (position - (len(shown) - 1) / 2)
                of_prior = part[part["prior"] == prior]
                values = pd.DataFrame({"matched_class": of_prior["matched_class"], "value": of_prior[quantity]})
                if len(values):
                    _range(ax, values, offset, STYLES[prior], shown[prior])
            ax.yaxis.set_major_formatter(PERCENT)
            ax.grid(False, axis="x")
            ax.set_xticks(range(10))
            if row == 0:
                ax.set_title(version_name, fontsize=9)
            else:
                ax.set_xlabel("digit")
            if column == 0:
                ax.set_ylabel(f"frequency, {label}")
    found = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    legend = {label: found[label] for label in ("true class", *shown.values())}
    figure.legend(legend.values(), legend, loc="outside upper center", ncols=len(legend), fontsize=8)
    caption = (
        "Figure 3: true class frequencies of the training digits and learned weights of the hypergeometric prior, "
        "clusters matched to classes as for the accuracy. Above: the share of a batch that the learned law expects "
        "(merged: the exact law with those weights); below: the weights themselves, divided by their sum. Marks: mean "
        "over the seeds, bars: smallest and largest. "
        f"{source(block, weights)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure


def _band(ax: Axes, lines: pd.DataFrame, quantity: str, style: Mapping[str, Any], label: str) -> None:
    """Mean over the seeds and a band from the smallest to the largest; epochs without a value are left out."""
    by_epoch = lines.dropna(subset=quantity).groupby("epoch")[quantity]
    mean, every = by_epoch.mean(), max(1, by_epoch.ngroups // 6)
    ax.fill_between(mean.index, by_epoch.min(), by_epoch.max(), color=style["color"], alpha=0.15, linewidth=0)
    ax.plot(mean.index, mean, label=label, linewidth=1.3, markersize=4, markevery=every, **style)


def figure_history(block: Block) -> Figure:
    """Bound and test accuracy over the epochs for every prior and dataset version."""
    history = select(block, "history", PRIORS)
    versions = {key: name for key, name in block.versions.items() if (history["version"] == key).any()}
    priors = {prior: name for prior, name in PRIORS.items() if (history["prior"] == prior).any()}
    size = (1.2 + 3.1 * len(versions), 5.4)
    figure, axes = plt.subplots(2, len(versions), figsize=size, sharex=True, sharey="row", squeeze=False)
    figure.set_layout_engine("constrained")
    rows = {"elbo": "ELBO of the training digits (nats)", "test_accuracy": "test accuracy"}
    for row, (quantity, label) in enumerate(rows.items()):
        for column, (version, version_name) in enumerate(versions.items()):
            ax: Axes = axes[row, column]
            for prior, name in priors.items():
                lines = history[(history["prior"] == prior) & (history["version"] == version)]
                if len(lines):
                    _band(ax, lines, quantity, STYLES[prior], name)
            if row == 0:
                ax.set_title(version_name, fontsize=9)
            else:
                ax.set_xlabel("epoch")
                ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
                ax.yaxis.set_major_formatter(PERCENT)
            if column == 0:
                ax.set_ylabel(label)
    found = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    legend = {name: found[name] for name in priors.values()}
    figure.legend(legend.values(), legend, loc="outside upper center", ncols=min(3, len(legend)), fontsize=8)
    caption = (
        "Evidence lower bound and test accuracy over the epochs; lines: mean over the seeds, bands: smallest and "
        "largest. The hypergeometric prior and its merged form score the counts of a batch, not the assignments: their "
        "bounds cannot be compared with the others in level. The accuracy is kept for the record; nothing was chosen "
        f"by it. {source(block, history)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure


def source(block: Block, lines: pd.DataFrame) -> str:
    """Profile, data and seeds of a figure's lines, the last sentence of its caption."""
    return f"{block.heading}, {describe_seeds(lines)}."
