"""Pictures of single runs of one block: confusion matrices and generated digits."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.clustering.blocks import PAPER_PRIORS, PAPER_VERSIONS, WEIGHTED, Block
from experiments.clustering.scores import NUM_CLASSES, UNMATCHED
from experiments.figures import add_caption, no_run
from experiments.results import ordered
from experiments.settings import ExperimentError

SIDE, GAP = 28, 1  # pixels: of an image, around it


def figure_confusion(block: Block) -> Figure:
    """Where the digits of each class went, for the paper's priors and every dataset version."""
    counts = block.table("confusion", PAPER_PRIORS)
    counts = counts.merge(block.table("weights")[["run_id", "cluster", "matched_class"]], on=["run_id", "cluster"])
    caption = (
        "Clusters (rows, in the order of the digits they are matched to) and digits (columns) of the test split: "
        "percent of a digit's images in each cluster, shares below 1 % left blank; above each panel the accuracy."
    )
    labels = ("digit", "cluster, by matched digit")
    return _panels(block, counts, PAPER_PRIORS, (3.3, 3.35), _draw_confusion, labels, caption)


def _draw_confusion(ax: Axes, counts: pd.DataFrame, prior: str, version: str) -> None:
    accuracy = counts.loc[counts["matched_class"] == counts["class"], "digits"].sum() / counts["digits"].sum()
    ax.set_title(f"{prior}, {version}: {100 * accuracy:.1f} %")
    order = _by_class(counts[["cluster", "matched_class"]].drop_duplicates())
    table = counts.pivot(index="cluster", columns="class", values="digits").loc[order["cluster"]]
    shares = (100 * table / table.sum()).fillna(0.0).to_numpy()  # a class may be missing from a small split
    ax.imshow(shares, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 1:
            colour = "white" if share > 55 else "black"
            ax.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    ax.set_xticks(range(table.shape[1]), [str(one) for one in table.columns])
    _name_rows(ax, range(len(order)), order["matched_class"])


def figure_digits(block: Block) -> Figure:
    """Digits generated from each cluster of the hypergeometric priors, the paper's above."""
    if not set(PAPER_VERSIONS) & set(block.versions):
        kept = ", ".join(PAPER_VERSIONS)
        raise ExperimentError(f"generated digits are kept of the versions {kept}; none was run at {block.source}")
    generated = block.table("generated", WEIGHTED)
    caption = "Generated digits, a line per cluster: the decoder's means at draws from the cluster's normal component."
    labels = ("", "digit matched to the cluster")
    return _panels(block, generated, WEIGHTED, (3.0, 3.7), _draw_digits, labels, caption)


def _draw_digits(ax: Axes, generated: pd.DataFrame, prior: str, version: str) -> None:
    ax.set_title(f"{prior},\n{version}", fontsize=8)
    lines = _by_class(generated)
    pixels = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in lines["pixels"]])
    samples = lines["sample"].nunique()
    images = np.pad(pixels.reshape(-1, samples, SIDE, SIDE), ((0, 0), (0, 0), (GAP, GAP), (GAP, GAP)))
    height = images.shape[-1]
    ax.imshow(images.swapaxes(1, 2).reshape(-1, samples * height), cmap="Greys", vmin=0, vmax=255)
    ax.set_xticks([])
    _name_rows(ax, height * (np.arange(len(images)) + 0.5), lines["matched_class"].iloc[::samples])


def _panels(
    block: Block,
    lines: pd.DataFrame,
    known: Iterable[str],
    size: tuple[float, float],
    panel: Callable[[Axes, pd.DataFrame, str, str], None],
    labels: tuple[str, str],
    caption: str,
) -> Figure:
    """A panel per prior and version of the paper's, or of all where none of them was run; each of its lowest seed."""
    lines = lines[lines["seed"] == lines.groupby(["prior", "version"])["seed"].transform("min")]
    priors = ordered(lines["prior"], known)
    versions = [version for version in block.versions if version in PAPER_VERSIONS] or list(block.versions)
    width, height = size
    figure, axes = plt.subplots(
        len(priors), len(versions), figsize=(width * len(versions), height * len(priors)), squeeze=False
    )
    for (prior, version), ax in zip(product(priors, versions), axes.flat):
        part = lines[(lines["prior"] == prior) & (lines["version"] == version)]
        if part.empty:
            ax.set_axis_off()
            no_run(ax)
            continue
        panel(ax, part, prior, block.versions[version])
        ax.set_xlabel(labels[0] if prior == priors[-1] else "")
        ax.set_ylabel(labels[1] if version == versions[0] else "")
    add_caption(figure, f"{caption} Lowest seed. {block.described(lines)}")
    return figure


def _by_class(lines: pd.DataFrame) -> pd.DataFrame:
    """Lines of clusters in the order of their classes; those without one come last."""
    key = lines["matched_class"].where(lines["matched_class"] != UNMATCHED, NUM_CLASSES)
    return lines.assign(key=key).sort_values(["key", *(name for name in ("cluster", "sample") if name in lines)])


def _name_rows(ax: Axes, places: Iterable[float], matched: pd.Series) -> None:
    ax.set_yticks(list(places), ["none" if one == UNMATCHED else str(one) for one in matched])
    ax.grid(False)
    ax.tick_params(length=0)
