"""Pictures of single runs of one block: confusion matrices, generated digits, the latent space."""

from __future__ import annotations

import base64
from collections.abc import Collection

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.clustering.blocks import LATENT_VERSION, PAPER_PRIORS, WEIGHTED, Block
from experiments.clustering.scores import NUM_CLASSES, UNMATCHED
from experiments.figures import CLASS_COLOURS, add_caption
from experiments.results import describe_seeds
from experiments.settings import ExperimentError

CAPTION = 17.5  # characters per inch
SIDE, GAP = 28, 1  # pixels: of an image, around it


def select(block: Block, table: str, priors: Collection[str]) -> pd.DataFrame:
    """Returns a table's lines of some priors.

    Raises:
        ExperimentError: there are none.
    """
    lines = block.table(table)
    lines = lines[lines["prior"].isin(priors)]
    if lines.empty:
        raise ExperimentError(f"the metrics hold no run of {' or '.join(priors)} at {block.source}")
    return lines


def source(block: Block, lines: pd.DataFrame) -> str:
    """Profile, data and seeds of a figure's lines, the last sentence of its caption."""
    return f"{block.heading}, {describe_seeds(lines)}."


def _lowest_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Keeps the lowest seed of each prior and version."""
    return table[table["seed"] == table.groupby(["prior", "version"])["seed"].transform("min")]


def _no_run(ax: Axes) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, "no run", ha="center", va="center", transform=ax.transAxes)


def _class_name(matched: int) -> str:
    return "none" if matched == UNMATCHED else str(matched)


def figure_confusion(block: Block) -> Figure:
    """Where the digits of each class went, for the paper's priors and every dataset version."""
    counts = _lowest_seed(select(block, "confusion", PAPER_PRIORS))
    matching = block.table("weights")[["run_id", "cluster", "matched_class"]]
    counts = counts.merge(matching, on=["run_id", "cluster"])
    versions = block.versions
    size = (3.3 * len(versions), 3.35 * len(PAPER_PRIORS))
    figure, axes = plt.subplots(len(PAPER_PRIORS), len(versions), figsize=size, squeeze=False, layout="constrained")
    for row, prior in enumerate(PAPER_PRIORS):
        for column, (version, version_name) in enumerate(versions.items()):
            ax: Axes = axes[row, column]
            part = counts[(counts["prior"] == prior) & (counts["version"] == version)]
            if part.empty:
                _no_run(ax)
            else:
                accuracy = part.loc[part["matched_class"] == part["class"], "digits"].sum() / part["digits"].sum()
                _draw_confusion(ax, part)
                ax.set_title(f"{prior}, {version_name}: {100 * accuracy:.1f} %", fontsize=9)
                ax.set_xlabel("digit" if row == len(PAPER_PRIORS) - 1 else "")
                ax.set_ylabel("cluster, by matched digit" if column == 0 else "")
    caption = (
        "Clusters (rows, in the order of the digits they are matched to) and digits (columns) of the test split: "
        "percent of a digit's images in each cluster, shares below 1 % left blank; above each panel the accuracy. "
        f"Lowest seed. {source(block, counts)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure


def _draw_confusion(ax: Axes, counts: pd.DataFrame) -> None:
    order = counts[["cluster", "matched_class"]].drop_duplicates()
    order = order.assign(key=order["matched_class"].where(order["matched_class"] != UNMATCHED, NUM_CLASSES))
    order = order.sort_values(["key", "cluster"])
    table = counts.pivot(index="cluster", columns="class", values="digits").loc[order["cluster"]]
    shares = (100 * table / table.sum()).fillna(0.0).to_numpy()  # a class may be missing from a small split
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 1:
            colour = "white" if share > 55 else "black"
            ax.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    ax.set_xticks(range(table.shape[1]), [str(one) for one in table.columns])
    ax.set_yticks(range(len(order)), [_class_name(matched) for matched in order["matched_class"]])
    ax.grid(False)
    ax.tick_params(length=0)


def figure_digits(block: Block) -> Figure:
    """Digits generated from each cluster of the hypergeometric rows."""
    generated = _lowest_seed(select(block, "generated", WEIGHTED))
    cells = [  # the paper's prior above, others below
        (prior, version, generated[(generated["prior"] == prior) & (generated["version"] == version)])
        for prior in (prior for prior in WEIGHTED if (generated["prior"] == prior).any())
        for version in block.versions
    ]
    columns = len(block.versions)
    rows = len(cells) // columns
    size = (3.0 * columns, 3.7 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax, (prior, version, part) in zip(axes.flat, cells, strict=True):
        if part.empty:
            _no_run(ax)
            continue
        _draw_digits(ax, part)
        ax.set_title(f"{prior},\n{block.versions[version]}", fontsize=8)
        if ax in axes[:, 0]:
            ax.set_ylabel("digit matched to the cluster")
    caption = (
        "Generated digits, a line per cluster: the decoder's means at draws from the cluster's normal component. "
        f"Lowest seed. {source(block, generated)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure


def _draw_digits(ax: Axes, generated: pd.DataFrame) -> None:
    key = generated["matched_class"].where(generated["matched_class"] != UNMATCHED, NUM_CLASSES)
    ordered = generated.assign(key=key).sort_values(["key", "cluster", "sample"])
    pixels = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in ordered["pixels"]])
    samples = ordered["sample"].nunique()
    images = np.pad(pixels.reshape(-1, samples, SIDE, SIDE), ((0, 0), (0, 0), (GAP, GAP), (GAP, GAP)))
    height = images.shape[-1]
    grid = images.swapaxes(1, 2).reshape(-1, samples * height)
    ax.imshow(grid, cmap="Greys", vmin=0, vmax=255)
    matched = ordered["matched_class"].to_numpy()[::samples]
    ax.set_yticks([height * (line + 0.5) for line in range(len(matched))], [_class_name(one) for one in matched])
    ax.set_xticks([])
    ax.grid(False)
    ax.tick_params(length=0)


def figure_latent(block: Block) -> Figure:
    """Two principal components of the latent space at the most unequal version, a panel per prior of the paper."""
    latent = _lowest_seed(select(block, "latent", PAPER_PRIORS))
    latent = latent[latent["version"] == LATENT_VERSION]
    if latent.empty:
        raise ExperimentError(f"the metrics hold no run of the version {LATENT_VERSION} at {block.source}")
    size = (10.5, 4.0)
    figure, axes = plt.subplots(1, len(PAPER_PRIORS), figsize=size, layout="constrained")
    for ax, prior in zip(axes, PAPER_PRIORS, strict=True):
        part = latent[latent["prior"] == prior]
        if part.empty:
            _no_run(ax)
            continue
        for label, points in part.groupby("label"):
            colour = CLASS_COLOURS[int(label) % len(CLASS_COLOURS)]
            ax.scatter(points["x"], points["y"], s=16, marker=f"${label}$", color=colour, linewidths=0.2)
        ax.set_title(f"{prior}, {block.versions[LATENT_VERSION]}", fontsize=9)
        ax.set_xlabel("first principal component")
        ax.set_ylabel("second principal component" if ax is axes[0] else "")
    caption = (
        f"Posterior means of {latent.groupby('run_id').size().max():,} test digits on their first two principal "
        f"components (of each panel's own); each mark is the digit's true class. Lowest seed. "
        f"{source(block, latent)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure
