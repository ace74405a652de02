"""Figures of reconstructions and latent traversals, of single runs of one block."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import add_caption
from experiments.results import ordered
from experiments.settings import ExperimentError
from experiments.weak_supervision.blocks import Block, label
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.pictures import (
    RECONSTRUCTED,
    RECONSTRUCTED_SHARED,
    TRAVERSED_METHODS,
    TRAVERSED_SHARED,
    Images,
    unpack,
)

GAP = 2  # pixels around an image


def _kept(block: Block, name: str, methods: tuple[str, ...], shared: tuple[int, ...]) -> pd.DataFrame:
    """Kept pictures of some methods and numbers of shared factors.

    Raises:
        ExperimentError: there is none.
    """
    missing = f"the metrics hold no pictures of {' or '.join(METHODS[method] for method in methods)} at {block.source}"
    try:
        table = block.table(name)
    except ExperimentError:  # runs of other methods leave none
        raise ExperimentError(missing) from None
    table = table[table["method"].isin(methods) & table["shared"].isin(shared)]
    if table.empty:
        raise ExperimentError(missing)
    return table


def _tiled(lines: list[Images]) -> Images:
    """Joins lines of images [lines][images, height, width, 3] into one, with white gaps."""
    padding = ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0))
    joined = [np.concatenate(list(np.pad(line, padding, constant_values=255)), axis=1) for line in lines]
    return np.concatenate(joined, axis=0)


def _show(ax: Axes, lines: list[Images], names: list[str], columns: list[str]) -> None:
    height, width = (side + 2 * GAP for side in lines[0].shape[1:3])
    ax.imshow(_tiled(lines), interpolation="nearest")
    ax.set_yticks([height * (line + 0.5) for line in range(len(lines))], names, fontsize=7)
    ax.set_xticks([width * (column + 0.5) for column in range(len(columns))], columns, fontsize=7)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def figure_reconstructions(block: Block) -> Figure:
    """Pairs of test images above what the methods make of them, a panel per s."""
    table = _kept(block, "reconstructions", RECONSTRUCTED, RECONSTRUCTED_SHARED)
    shown = [shared for shared in RECONSTRUCTED_SHARED if (table["shared"] == shared).any()]
    figure, axes = plt.subplots(1, len(shown), figsize=(5.6 * len(shown), 3.6), squeeze=False)
    for ax, shared in zip(axes.flat, shown):
        lines: list[Images] = []
        names: list[str] = []
        before: Images | None = None
        of_pairs = table[table["shared"] == shared]
        for method in ordered(of_pairs["method"], METHODS):
            part = of_pairs[of_pairs["method"] == method].sort_values(["pair", "view"])
            original, decoded = (
                unpack(part.loc[part["kind"] == kind, "jpeg"]) for kind in ("original", "reconstruction")
            )
            if before is None or not np.array_equal(before, original):  # another seed has other pairs
                lines.append(original)
                names.append("test images")
                before = original
            lines.append(decoded)
            names.append(label(method))
        pairs = part.loc[part["kind"] == "original", ["pair", "view"]].itertuples(index=False)
        _show(ax, lines, names, [f"pair {pair + 1},\nview {view + 1}" for pair, view in pairs])
        ax.set_title(f"s = {shared} shared factors, k = {block.num_factors - shared} independent")
    caption = (
        "Pairs of test images and their reconstructions from the posterior means; shared latents have the same mean in "
        f"both views. Lowest seed. {block.described(table)}"
    )
    add_caption(figure, caption)
    return figure


def figure_traversals(block: Block) -> Figure:
    """A test image decoded with one latent at a time moved, a panel per method."""
    table = _kept(block, "traversals", TRAVERSED_METHODS, (TRAVERSED_SHARED,))
    methods = ordered(table["method"], METHODS)
    size = (max(6.5, 4.6 * len(methods)), 4.7)
    figure, axes = plt.subplots(1, len(methods), figsize=size, squeeze=False)
    for ax, method in zip(axes.flat, methods):
        part = table[table["method"] == method].sort_values(["rank", "step"])
        lines, names = [], []
        for _, line in part.groupby("rank"):
            lines.append(unpack(line["jpeg"]))
            first = line.iloc[0]
            names.append(f"latent {first['latent']}: {first['activity']:.2f}")
        _show(ax, lines, names, [f"{value:.1f}" for value in part["value"].unique()])
        ax.set_title(label(method))
        ax.set_xlabel("value of the latent", fontsize=8)
    axes[0, 0].set_ylabel("latent: its mean KL divergence to the prior (nats)", fontsize=8)
    caption = (
        "One test image decoded with a latent at a time moved over two prior standard deviations, the others kept; the "
        f"most active latents, pairs share {TRAVERSED_SHARED} factors. Lowest seed. {block.described(table)}"
    )
    add_caption(figure, caption)
    return figure
