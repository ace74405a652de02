"""Pairs that share a random number of factors: whether k-hat follows k pair by pair, which no constant does."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figures import add_caption
from experiments.results import blocks, ordered, provenance_of, read_metrics
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table
from experiments.weak_supervision.ablation import CHANGES
from experiments.weak_supervision.blocks import RANDOM, ROOM, Block, count_of_held, label
from experiments.weak_supervision.data.sources import SOURCES
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.table_1 import METRICS_FILE, of_some, with_error

PIXELS, TAUGHT = "pixel_rank_correlation", "taught_rank_correlation"
TITLE = """\
# Pairs that share a random number of factors

k, the number of factors that differ, is uniform on 1..7, pair by pair. Rank correlation: Spearman's, of E[k-hat] with
k over the test pairs; 0 for an estimate that is the same for all. Taught: the same of a reader that is taught k,
boosted trees on how far apart each latent's two means are: what the representation holds of k. "k = 1" and so on:
mean of E[k-hat] over the pairs of that k; latents per factor: its slope. Scaled error: (7 k-hat / d - k)^2 pair by
pair, of E[k-hat] rounded, beside that of the best constant. Shared set: balanced accuracy with which the latent of a
factor is shared where the factor is, over the factors that one latent stands for (it explains at least half of that
latent's variance; their number in brackets). T: as with the numbers of Figure 2; k is 4 on average.
"""


def _random_lines(metrics: Path, profile: str | None, *, changes: bool = False) -> pd.DataFrame:
    table = read_metrics(metrics, f"{ROOM}_metrics", profile=profile, changes=changes)
    return table[table["shared"].astype(str) == RANDOM]


def random_blocks(metrics: Path, profile: str | None = None) -> list[Block]:
    """The blocks that have runs on such pairs.

    Raises:
        ExperimentError: there is none.
    """
    table = _random_lines(metrics, profile)
    if table.empty:
        raise ExperimentError(f"the metrics hold no run with shared={RANDOM}")
    return [Block(metrics, *part) for part in blocks(table, SOURCES)]


def _counts(block: Block) -> pd.DataFrame:
    counts = read_metrics(block.folder, f"{ROOM}_counts", profile=block.profile, changes=True)
    return counts[counts["data"] == block.data]


def means_by_count(block: Block) -> pd.DataFrame:
    """Mean of E[k-hat] by true k, a line per run id and a column per k."""
    counts = _counts(block)
    return counts.groupby(["run_id", "true_count"])["mean"].first().unstack("true_count")


def pixel_runs(lines: pd.DataFrame) -> pd.DataFrame:
    """A line per seed, with the rank correlation that needs no model; all methods see the same pairs."""
    lines = lines.dropna(subset=[PIXELS]).drop_duplicates("seed")
    return lines.assign(rank_correlation=lines[PIXELS])


def _pair_by_pair(block: Block) -> pd.DataFrame:
    """By run id: latents per factor, the slope over k; the scaled error pair by pair, and the best constant's."""
    found = {}
    latents = _random_lines(block.folder, block.profile, changes=True).set_index("run_id")["latents"]
    for run, lines in _counts(block).groupby("run_id"):
        pairs, true = lines["pairs"], lines["true_count"]
        away = true - np.average(true, weights=pairs)
        constant = np.average(away**2, weights=pairs)
        slope = np.average(away * lines["mean"], weights=pairs) / (constant or math.nan)
        error = np.average((lines["estimated_count"] * block.num_factors / latents[run] - true) ** 2, weights=pairs)
        found[run] = {"slope": slope, "error": error, "constant": constant}
    return pd.DataFrame.from_dict(found, orient="index")


def random_table(block: Block) -> Table:
    """Rank correlation, means by k, set accuracy and bounds, a line per method."""
    means, by_pair = means_by_count(block), _pair_by_pair(block)
    header = ["method", "rank correlation", "taught", *(f"k = {count}" for count in means), "latents per factor"]
    header += ["scaled error; the best constant's", "shared set (factors)"]
    header += ["T", "active latents", "bound, joint", "seeds"]
    rows, provenance = [], []
    lines = _random_lines(block.folder, block.profile, changes=True)
    lines = lines[lines["data"] == block.data]
    for method in ordered(lines["method"], METHODS):
        for change, runs in lines[lines["method"] == method].groupby("changes"):
            of_runs = means.reindex(runs["run_id"])
            cells = [
                with_error(runs["rank_correlation"], 3),
                with_error(runs[TAUGHT].dropna(), 3),
            ]
            cells += [with_error(of_runs[count], 2) for count in means]
            one = by_pair.reindex(runs["run_id"])
            cells += [
                with_error(one["slope"].dropna(), 2),
                f"{with_error(one['error'], 2)}; {one['constant'].mean():.2f}",
            ]
            accuracy = with_error(runs["shared_set_accuracy"].dropna(), 3)
            cells.append(f"{accuracy} ({runs['assigned_factors'].mean():.1f})")
            held = count_of_held(runs, block.num_factors).dropna()
            cells.append(of_some(with_error(held, 2), held, runs))
            cells += [with_error(runs["active_latents"], 1), with_error(runs["joint_bound"], 2)]
            name = f"{label(method)}: {CHANGES.get(change, change)}" if change else label(method)
            rows.append([name, *cells, str(runs["seed"].nunique())])
            provenance.append(provenance_of(runs, METRICS_FILE))
    pixels = pixel_runs(lines)
    if len(pixels):
        cells = [with_error(pixels["rank_correlation"], 3), *[NOTHING] * (len(header) - 3)]
        rows.append(["no model: the number of pixels that change", *cells, str(len(pixels))])
        provenance.append(provenance_of(pixels, METRICS_FILE))
    return Table(f"Random numbers of shared factors on {block.source}: mean ± standard error", header, rows, provenance)


def figure_confusion(block: Block) -> Figure:
    """E[k-hat], rounded, against k: the share of the pairs of each k, all seeds together.

    Args:
        block: of the same profile and data; its own runs, of pairs that share one number, are not looked at.

    Raises:
        ExperimentError: there is no run of such pairs.
    """
    found = [one for one in random_blocks(block.folder, block.profile) if one.data == block.data]
    if not found:
        raise ExperimentError(f"the metrics hold no run with shared={RANDOM} at {block.source}")
    (block,) = found
    counts, methods = _counts(block), ordered(block.metrics["method"], METHODS)
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    size = (0.6 + 2.5 * columns, 0.9 + 2.9 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    estimates = range(int(block.metrics["latents"].max()) + 1)
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods):
        part = counts[(counts["method"] == method) & (counts["changes"] == "")]
        pairs = part.pivot_table(index="estimated_count", columns="true_count", values="pairs", aggfunc="sum")
        pairs = pairs.reindex(estimates).fillna(0)
        edges = (pairs.columns[0] - 0.5, pairs.columns[-1] + 0.5, -0.5, estimates[-1] + 0.5)
        shares = pairs / pairs.sum()
        ax.imshow(shares, cmap="Greys", vmin=0, vmax=1, origin="lower", extent=edges, aspect="auto")
        means = means_by_count(block).reindex(block.runs(method)["run_id"])
        for _, line in means.iterrows():
            ax.plot(line.index, line, color=block.style(method)["color"], linewidth=1.4)
        correlation = with_error(block.runs(method)["rank_correlation"], 2)
        ax.set_title(f"{label(method)}\nrank correlation {correlation}", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("factors that differ, k", fontsize=9)
    figure.supylabel("estimated independent latents", fontsize=9)
    caption = (
        "How often an estimate, E[k-hat] rounded, goes with each number of factors that differ; shades: share of the "
        "test pairs of that k, white 0, black 1; lines: the mean estimate, one per seed. "
        f"{block.described(block.metrics)}"
    )
    add_caption(figure, caption)
    return figure
