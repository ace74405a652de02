"""What the ablations change: a table of all of them, and Figure 13."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.errors import ExperimentError
from experiments.common.figures import add_caption
from experiments.common.provenance import provenance_of
from experiments.common.tables import Table, spread
from experiments.weak_supervision.blocks import (
    ABLATION,
    CAPTION,
    METHODS,
    ROOM,
    STYLES,
    Block,
    independent_factors,
    mean_and_error,
)
from experiments.weak_supervision.tables import with_error

AS_DEFINED = "as defined"
# Settings of Figure 13: column of the metrics, and the beginning of the names of the rows that change it alone.
SETTINGS = {"final_temperature": "final temperature", "learning_rate": "learning rate"}
QUANTITIES = {
    "loss": "training loss (nats per image)",
    "count_error": r"$(E[\hat{k}] - k)^2$",
}


def ablation_runs(block: Block) -> pd.DataFrame:
    """Metrics of the ablations with this profile and data, below those of the methods that they change.

    Raises:
        ExperimentError: there are none.
    """
    changed = block.of_room(ABLATION, "metrics")
    if changed.empty:
        raise ExperimentError(f"the metrics hold no ablation at {block.source}")
    cells = set(zip(changed["method"], changed["shared"]))
    base = block.metrics
    base = base[[cell in cells for cell in zip(base["method"], base["shared"])]]
    return pd.concat([base.assign(variant=AS_DEFINED), changed], ignore_index=True)


def ablation_table(block: Block) -> Table:
    """Number of independent latents, bounds and accuracies of every ablation, below the method as it is."""
    runs = ablation_runs(block)
    header = ["method: change", "s", "k", "E[k-hat]", "(E[k-hat] - k)^2", "one draw: (k-hat - k)^2", "active latents"]
    header += ["bound, per view", "bound, joint", "S", "I", "seeds"]
    rows, provenance = [], []
    for (method, shared), of_method in runs.groupby(["method", "shared"]):
        of_method = of_method.assign(first=of_method["variant"] != AS_DEFINED)
        for (_, _, variant), part in of_method.groupby(["first", "row", "variant"]):
            cells = [str(shared), str(independent_factors(int(shared)))]
            cells += [with_error(part[name], 2) for name in ("expected_count", "count_error", "draw_count_error")]
            cells.append(with_error(part["active_latents"], 1))
            cells += [with_error(part[f"{bound}_bound"], 2) for bound in ("per_view", "joint")]
            cells += [spread(part[f"{name}_accuracy"].dropna(), 3) for name in ("shared", "independent")]
            rows.append([f"{METHODS.get(method, method)}: {variant}", *cells, str(part["seed"].nunique())])
            room = ROOM if variant == AS_DEFINED else ABLATION
            provenance.append(provenance_of(part, f"{room}_metrics.csv"))
    title = f"Ablations on {block.source}: mean ± standard error over seeds (S, I: ± standard deviation)"
    return Table(title, header, rows, provenance)


def _with_loss(block: Block, runs: pd.DataFrame) -> pd.DataFrame:
    """Adds the training loss, the mean over the last part of the history."""
    histories = pd.concat([block.table("history"), block.of_room(ABLATION, "history")])
    last = histories[histories["epoch"] == histories.groupby("run_id")["epoch"].transform("max")]
    return runs.assign(loss=runs["run_id"].map(-last.set_index("run_id")["bound"]))


def _panel(ax: Axes, runs: pd.DataFrame, setting: str, quantity: str, style: Mapping[str, Any]) -> None:
    by_value = runs.groupby(setting)[quantity]
    found = {float(value): mean_and_error(part) for value, part in by_value}
    means = [mean for mean, _ in found.values()]
    errors = [0.0 if math.isnan(error) else error for _, error in found.values()]
    ax.errorbar(list(found), means, yerr=errors, capsize=2, elinewidth=1, linewidth=1.3, markersize=4.5, **style)
    ax.plot(runs[setting], runs[quantity], linestyle="", marker=".", markersize=3, color="0.45", zorder=3)


def figure_13(block: Block) -> Figure:
    """Training loss and squared error of the number of independent latents over two settings of HGVAE."""
    runs = ablation_runs(block)
    runs = _with_loss(block, runs[runs["method"] == "hgvae"])
    name = runs["row"].str.split("/").str[-1]
    chosen = {setting: runs[name.str.startswith(setting)] for setting in SETTINGS}
    missing = [words for setting, words in SETTINGS.items() if chosen[setting].empty]
    if len(missing) == len(SETTINGS):
        raise ExperimentError(f"the metrics hold no ablation of {' or '.join(missing)} at {block.source}")
    size = (7.6, 5.2)
    figure, axes = plt.subplots(2, 2, figsize=size, sharex="col", sharey="row", layout="constrained")
    shown = []
    for column, (setting, words) in enumerate(SETTINGS.items()):
        lines = chosen[setting]
        same_pairs = runs["shared"].isin(lines["shared"])
        lines = pd.concat([runs[same_pairs & (runs["variant"] == AS_DEFINED)], lines])
        for row, (quantity, axis) in enumerate(QUANTITIES.items()):
            ax: Axes = axes[row, column]
            if words in missing:
                ax.set_axis_off()
                ax.text(0.5, 0.5, "no run", ha="center", va="center", transform=ax.transAxes)
                continue
            for shared, part in lines.groupby("shared"):
                _panel(ax, part, setting, quantity, STYLES["hgvae"] | {"label": f"s = {shared}"})
            ax.set_xscale("log")
            ax.set_ylabel(axis if column == 0 else "")
            ax.set_xlabel(words if row == 1 else "")
        shown.append(lines)
    all_lines = pd.concat(shown)
    pairs = " or ".join(str(shared) for shared in sorted(all_lines["shared"].unique()))
    caption = (
        "HGVAE over the final temperature and over the learning rate, each changed alone. Above: training loss of the "
        f"last part of the training; below: squared error of the number of independent latents, pairs share {pairs} "
        "factors. Lines: mean over the seeds, bars: its standard error, dots: single seeds. "
        f"{block.described(all_lines)}"
    )
    add_caption(figure, caption, int(CAPTION * size[0]))
    return figure
