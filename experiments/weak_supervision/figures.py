"""The room's figures; Figure 2 and the bounds of trained models by the number of latents are made here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.figures import COLOURS, add_caption, draw_means, legend_above, no_run
from experiments.settings import ExperimentError
from experiments.weak_supervision.ablation import figure_13
from experiments.weak_supervision.blocks import Block, label, read_blocks, with_scaled_error
from experiments.weak_supervision.drift import figure_drift
from experiments.weak_supervision.imposed import figure_counts
from experiments.weak_supervision.methods import REFERENCES
from experiments.weak_supervision.pictures import CAPTIONS, figure_pictures
from experiments.weak_supervision.random_pairs import figure_confusion, random_blocks

ERRORS = {
    "count_error": r"$(E[\hat{k}] - k)^2$",
    "scaled_count_error": r"scaled: $(7 E[\hat{k}] / d - k)^2$",
    "draw_count_error": r"one draw: $(\hat{k} - k)^2$",
    "shared_error": r"literal: $(d - E[\hat{k}] - s)^2$",
}
NEAR = 1.0  # scaled squared error that an estimate of k may have at most, as the rules of the claims have it
OBJECTIVES = {"per_view": "per view", "joint": "joint"}
NATS, LOWEST = 0.1, -10.0  # of differences of the bound: drawn linearly below, not drawn under
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws the room's figures, by name: of every profile and data set.

    Raises:
        ExperimentError: there are no metrics.
    """
    drawn: dict[str, Callable[[Block], Figure]] = {
        "figure_2": figure_2,
        "figure_13": figure_13,
        "weak_supervision_bounds": figure_profile,
        "weak_supervision_counts": figure_counts,
        "weak_supervision_drift": figure_drift,
        **{f"weak_supervision_{kind}": partial(figure_pictures, kind=kind) for kind in CAPTIONS},
    }
    blocks = read_blocks(metrics)
    made: dict[str, Callable[[], Figure]]
    made = {f"{name}_{block.suffix}": partial(make, block) for block in blocks for name, make in drawn.items()}
    with suppress(ExperimentError):  # there are no runs of such pairs
        blocks = [*blocks, *random_blocks(metrics)]
    return made | {f"weak_supervision_confusion_{block.suffix}": partial(figure_confusion, block) for block in blocks}


def figure_2(block: Block) -> Figure:
    """Squared errors of the number of independent latents over s, in four readings, a line per method."""
    methods = [method for method in block.methods if method not in REFERENCES]
    if not methods:
        raise ExperimentError(f"the metrics hold no run of a method that estimates k at {block.source}")
    figure, axes = plt.subplots(1, len(ERRORS), figsize=(11.4, 3.7), sharey=True)
    for ax, (column, title) in zip(axes, ERRORS.items()):
        for position, method in enumerate(methods):
            runs = with_scaled_error(block.runs(method), block.num_factors)
            runs = runs.assign(place=runs["shared"].map(block.shared.index))
            offset = 0.1 * (position - (len(methods) - 1) / 2)
            draw_means(ax, runs, "place", column, offset, label=label(method), **block.style(method))
        if column == "scaled_count_error":
            ax.axhline(NEAR, color="0.4", linewidth=1.2, zorder=0)
        ax.set_title(title)
        ax.set_xlabel("shared factors, s")
        ax.set_xticks(range(len(block.shared)), [str(shared) for shared in block.shared])
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_yticks([0, 0.1, 1, 10, 100])
        ax.set_ylim(bottom=-0.01)
        ax.yaxis.set_major_formatter(PLAIN)
    axes[0].set_ylabel("squared error")
    legend_above(figure, axes[0].get_legend_handles_labels(), 4)
    caption = (
        f"Squared error of the number of independent latents against k = {block.num_factors} - s. From the left: of "
        "its mean under the method's law; of that mean scaled by factors / latents (grey line: a low error, at most "
        f"{NEAR:g}); of a single draw per pair; of the number of shared latents against s. Marks: mean over the seeds, "
        "bars: its standard error; marks are moved sideways to be seen. Linear below 0.1, logarithmic above. "
        f"{block.described(block.metrics[block.metrics['method'].isin(methods)])}"
    )
    add_caption(figure, caption)
    return figure


def relative_bounds(profile: pd.DataFrame, objective: str, true_count: int) -> pd.DataFrame:
    """The bound at every k less that at the true one, [k, seeds]."""
    bounds = profile.pivot(index="independent", columns="seed", values=objective)
    return bounds - bounds.loc[true_count]


def figure_profile(block: Block) -> Figure:
    """How the bound of the trained models depends on the number of independent latents."""
    profile = block.table("profile")
    methods, pairs = block.methods, block.shared
    size = (max(5.2, 1.0 + 2.05 * len(pairs)), 0.9 + 1.45 * len(methods))
    figure, axes = plt.subplots(len(methods), len(pairs), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, method in enumerate(methods):
        for column, shared in enumerate(pairs):
            ax: Axes = axes[row, column]
            part = profile[(profile["method"] == method) & (profile["shared"] == shared)]
            if row == 0:
                ax.set_title(f"s = {shared}, k = {block.num_factors - shared}")
            if column == 0:
                ax.set_ylabel(label(method).replace(": ", ":\n"), fontsize=8)
            if part.empty:
                no_run(ax)
                continue
            _bounds(ax, part, block.num_factors - shared)
    for ax in axes.flat:
        ax.set_yscale("symlog", linthresh=NATS)
        ax.set_ylim(bottom=LOWEST)
        ax.set_yticks([-10, -1, -0.1, 0, 0.1, 1, *(tick for tick in (10, 100, 1000) if tick < ax.get_ylim()[1])])
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_formatter(PLAIN)
        ax.tick_params(labelsize=7)
    figure.supxlabel("number of independent latents that is imposed", fontsize=9)
    figure.supylabel("bound less that at the true k (nats per image)", fontsize=9)
    handles, labels = next(ax.get_legend_handles_labels() for ax in axes.flat if ax.lines)
    legend_above(figure, (handles, labels), len(labels))
    caption = (
        "Bound of the trained models on test pairs when the k latents of largest divergence are independent, for every "
        "k, less the bound at the true k (dashed vertical line). Where a curve is above 0, the bound prefers a wrong "
        "k; the large mark is its maximum. Lines: mean over the seeds, bands: smallest and largest. Linear between "
        f"-{NATS:g} and {NATS:g} nats, logarithmic beyond; not drawn below {LOWEST:g}. {block.described(profile)}"
    )
    add_caption(figure, caption)
    return figure


def _bounds(ax: Axes, profile: pd.DataFrame, true_count: int) -> None:
    ax.axvline(true_count, color="0.4", linewidth=0.9, linestyle="--", zorder=0)
    for (objective, name), colour, marker, line in zip(OBJECTIVES.items(), COLOURS, ("o", "s"), ("-", "--")):
        bounds = relative_bounds(profile, objective, true_count)
        mean = bounds.mean(axis=1)
        ax.fill_between(bounds.index, bounds.min(axis=1), bounds.max(axis=1), color=colour, alpha=0.15, linewidth=0)
        ax.plot(mean.index, mean, color=colour, linewidth=1.2, linestyle=line, label=f"bound {name}")
        best = int(np.argmax(mean))
        ax.plot(mean.index[best], mean.iloc[best], color=colour, marker=marker, markersize=5.5, markeredgecolor="black")
