"""How HGVAE's number of independent latents moves in training, as it is and with one setting changed."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.figures import COLOURS, LINES, add_caption, legend_above
from experiments.results import describe_seeds, ordered
from experiments.settings import ExperimentError
from experiments.weak_supervision.ablation import CHANGES
from experiments.weak_supervision.blocks import Block

STUDIED = r"model\..*"


def figure_drift(block: Block) -> Figure:
    """E[k-hat] and the mean log weight over the share of the training, a column per s and a line per seed.

    Raises:
        ExperimentError: there is no history of HGVAE.
    """
    history = block.table("history", changes=True).query("method == 'hgvae'")
    history = history.dropna(subset=["log_weight_difference"]) if "log_weight_difference" in history else history[:0]
    changed = history["changes"].str.fullmatch(STUDIED)
    pairs = sorted(set(history.loc[changed, "shared"]))
    history = history[(changed | (history["changes"] == "")) & history["shared"].isin(pairs)]
    if history.empty:
        raise ExperimentError(f"the metrics hold no history of HGVAE with a changed setting at {block.source}")
    changes = ordered(history["changes"], CHANGES)
    size = (1.2 + 3.6 * len(pairs), 6.4)
    figure, grid = plt.subplots(2, len(pairs), figsize=size, sharex=True, sharey="row", squeeze=False)
    above, below = grid
    for place, change in enumerate(changes):
        style: Any = {"color": COLOURS[place % len(COLOURS)], "linestyle": LINES[place // len(COLOURS) % len(LINES)]}
        for (shared, _), line in history[history["changes"] == change].groupby(["shared", "run_id"]):
            line = line.sort_values("epoch")
            column = pairs.index(shared)
            for ax, quantity in ((above[column], "expected_count"), (below[column], "log_weight_difference")):
                share = line["epoch"] / line["epoch"].max()
                ax.plot(share, line[quantity], linewidth=1.1, label=CHANGES.get(change, change), **style)
    for ax, shared in zip(above, pairs):
        ax.axhline(block.num_factors - shared, color="0.4", linewidth=0.8, linestyle=":", zorder=0)
        ax.set_title(f"s = {shared}, k = {block.num_factors - shared}")
    for ax in below:
        ax.set_yscale("symlog", linthresh=1)  # in one training it reaches thousands
        ax.set_xlabel("share of the training")
    above[0].set_ylabel(r"$E[\hat{k}]$")
    below[0].set_ylabel("log weight, independent less shared")
    labelled = {text: handle for ax in above for handle, text in zip(*ax.get_legend_handles_labels())}
    legend_above(figure, (list(labelled.values()), list(labelled)), 3)
    kinds = history["changes"].eq("").map({True: "as defined", False: "changed"})
    caption = (
        "HGVAE as defined and with one setting changed: above, the mean number of independent latents under its law "
        "(dotted: k); below, the mean difference of the two log weights that its dense layer gives. One line per seed; "
        f"means over each part of the training. {block.heading}: {block.budget}, "
        f"{describe_seeds(history.assign(kind=kinds), 'kind')}."
    )
    add_caption(figure, caption)
    return figure
