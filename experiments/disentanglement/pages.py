"""Figure 11 and its numbers: disentanglement and downstream scores over the number of independent factors."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import add_caption
from experiments.results import describe_commits, describe_seconds, ordered, provenance_of, spread
from experiments.tables import Table
from experiments.weak_supervision.blocks import (
    CAPTION,
    DISENTANGLEMENT,
    Block,
    label,
    listed,
    means_and_bars,
    read_blocks,
)
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.pages import block_markdown

FIGURE_11 = """\
# The numbers of Figure 11

Scores of the representations by disentanglement_lib, 1 is best; downstream: adjusted balanced accuracy of linear
classifiers on all latents of single images.
"""
SCORES = {  # of the figure
    "beta_vae": "BetaVAE score",
    "factor_vae": "FactorVAE score",
    "mig": "MIG",
    "dci_disentanglement": "DCI disentanglement",
    "sap": "SAP",
    "modularity": "modularity",
    "downstream": "downstream accuracy",
}
OTHER_SCORES = {"dci_completeness": "DCI completeness", "dci_informativeness": "DCI informativeness"}


def scores(block: Block) -> pd.DataFrame:
    """Scores of a block's models, a line per run and score, with ``k``.

    Raises:
        ExperimentError: there are none.
    """
    table = block.table("metrics", DISENTANGLEMENT)
    return table.assign(k=block.num_factors - table["shared"])


def figure_11_table(block: Block) -> Table:
    """The numbers of Figure 11, a line for every method and s with a run."""
    table, names = scores(block), SCORES | OTHER_SCORES
    rows, provenance = [], []
    for method in ordered(table["method"], METHODS):
        for shared, part in table[table["method"] == method].groupby("shared"):
            cells = [spread(part.loc[part["score"] == score, "value"], 3) for score in names]
            rows.append([label(method), str(shared), *cells, str(part["seed"].nunique())])
            provenance.append(provenance_of(part, f"{DISENTANGLEMENT}_metrics.csv"))
    title = f"Figure 11 on {block.source}, {block.budget}: mean ± standard deviation over seeds"
    title += f"; examples to fit on: {_samples(table)}"
    return Table(title, ["method", "s", *names.values(), "seeds"], rows, provenance)


def score_notes(block: Block) -> str:
    """Says how the scores were made."""
    runs = scores(block).drop_duplicates("run_id")
    lines = {
        "seeds": listed(runs["seed"]),
        "hardware": ", ".join(sorted(runs["device"].unique())),
        "time per run": describe_seconds(runs),
        "commit": describe_commits(runs),
    }
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())


def _samples(table: pd.DataFrame) -> str:
    """How many examples the scores were fitted on."""
    dci = table["score"].str.startswith("dci_")
    return f"{listed(table.loc[~dci, 'samples'])}, of DCI {listed(table.loc[dci, 'samples'])}"


def figure_11(block: Block) -> Figure:
    """A panel per score, over k, a line per method."""
    table = scores(block)
    size = (9.2, 4.8)
    figure, axes = plt.subplots(2, 4, figsize=size, sharex=True, layout="constrained")
    methods = ordered(table["method"], METHODS)
    ax: Axes
    for ax, (score, name) in zip(axes.flat, SCORES.items()):
        for position, method in enumerate(methods):
            part = table[(table["method"] == method) & (table["score"] == score)]
            found, means, errors = means_and_bars(part, "k", "value")
            offset = 0.1 * (position - (len(methods) - 1) / 2)
            style = {"linewidth": 1.3, "markersize": 4.5, "capsize": 2, "elinewidth": 1} | block.style(method)
            ax.errorbar([k + offset for k in found], means, yerr=errors, **style)
        ax.set_title(name, fontsize=9)
        ax.set_xticks(sorted(table["k"].unique()))
        low, high = min(0.0, ax.get_ylim()[0]), ax.get_ylim()[1]
        ax.set_ylim(low, high + 0.04 * (high - low))  # room for the marks
    for ax in axes[1, :3]:
        ax.set_xlabel("independent factors, k")
    axes[0, 3].set_xlabel("independent factors, k")
    axes[0, 3].tick_params(labelbottom=True)
    axes[1, 3].set_axis_off()
    handles = [Line2D([], [], markersize=4.5, **block.style(method)) for method in methods]
    axes[1, 3].legend(handles, [label(method) for method in methods], loc="center")
    caption = (
        "Disentanglement scores by disentanglement_lib, and adjusted balanced accuracy of linear classifiers on all "
        f"latents of single images, over k = {block.num_factors} - s. Mean over the seeds and its standard error; "
        f"marks are moved sideways to be seen. Examples to fit on: {_samples(table)}. {block.described(table)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure


def figure_11_files(metrics: Path, profile: str | None) -> dict[str, str]:
    """Returns the file of Figure 11's numbers, by name.

    Args:
        metrics: folder of CSVs.
        profile: profile to take; None for every one.

    Raises:
        ExperimentError: there are no scores.
    """
    return {"figure_11.md": block_markdown(FIGURE_11, read_blocks(metrics, profile), figure_11_table, score_notes)}
