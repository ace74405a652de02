"""Figure 11: disentanglement and downstream scores over the number of independent factors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.disentanglement.tables import SCORES, samples, scores
from experiments.figures import add_caption, draw_means
from experiments.results import ordered
from experiments.weak_supervision.blocks import Block, label, read_blocks
from experiments.weak_supervision.methods import METHODS


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws Figure 11 of every profile and data set, by name.

    Raises:
        ExperimentError: there are no metrics.
    """
    return {f"figure_11_{block.suffix}": partial(figure_11, block) for block in read_blocks(metrics)}


def figure_11(block: Block) -> Figure:
    """A panel per score, over k, a line per method."""
    table = scores(block)
    figure, axes = plt.subplots(2, 4, figsize=(9.2, 4.8), sharex=True)
    methods = ordered(table["method"], METHODS)
    ax: Axes
    for ax, (score, name) in zip(axes.flat, SCORES.items()):
        for position, method in enumerate(methods):
            part = table[(table["method"] == method) & (table["score"] == score)]
            draw_means(ax, part, "k", "value", 0.1 * (position - (len(methods) - 1) / 2), **block.style(method))
        ax.set_title(name)
        ax.set_xticks(sorted(table["k"].unique()))
        low, high = min(0.0, ax.get_ylim()[0]), ax.get_ylim()[1]
        ax.set_ylim(low, high + 0.04 * (high - low))  # room for the marks
    for ax in axes[1, :3]:
        ax.set_xlabel("independent factors, k")
    axes[0, 3].set_xlabel("independent factors, k")
    axes[0, 3].tick_params(labelbottom=True)
    axes[1, 3].set_axis_off()
    handles = [Line2D([], [], **block.style(method)) for method in methods]
    axes[1, 3].legend(handles, [label(method) for method in methods], loc="center")
    caption = (
        "Disentanglement scores by disentanglement_lib, and adjusted balanced accuracy of linear classifiers on all "
        f"latents of single images, over k = {block.num_factors} - s. Mean over the seeds and its standard error; "
        f"marks are moved sideways to be seen. Examples to fit on: {samples(table)}. {block.described(table)}"
    )
    add_caption(figure, caption)
    return figure
