"""What the methods depend on: runs with changed settings, a table of all of them, and Figure 13."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import add_caption, draw_means, legend_above, look, no_run
from experiments.results import ordered, provenance_of, spread
from experiments.settings import ExperimentError
from experiments.tables import Table
from experiments.weak_supervision.blocks import Block
from experiments.weak_supervision.methods import METHODS
from experiments.weak_supervision.table_1 import METRICS_FILE, count_cells

AS_DEFINED = ""
CHANGES = {  # in words, in their order; others are shown as they are
    AS_DEFINED: "as defined",
    "data.pairing=fixed_set": "the first s factors are shared",
    "model.objective=per_view": "per-view bound",
    "model.num_latents=7": "7 latents",
    "training.final_temperature=0.1": "final temperature 0.1",
    "training.final_temperature=1": "final temperature 1",
    "model.objective=joint": "joint bound",
    "model.num_latents=7 model.objective=joint": "joint bound, 7 latents",
    "training.learning_rate=0.003": "learning rate 0.003",
    "training.learning_rate=0.0001": "learning rate 0.0001",
    "model.sort_scores=log_divergence": "log divergences sorted",
    "model.selection=random_partition": "selected by a random partition",
    "model.weights_learning_rate_factor=0.01": "dense layer at a hundredth of the rate",
    "model.weights_learning_rate_factor=0": "dense layer frozen",
    "model.detach_divergences=true": "divergences detached",
    "model.gradient=score_function": "unbiased gradient of the law",
    "training.steps=8000": "8,000 steps",
    "training.learning_rate=1e-06 training.steps=10000": "the paper's learning rate 1e-6, 10,000 steps",
}
SETTINGS = {"final_temperature": "final temperature", "learning_rate": "learning rate"}  # of Figure 13
QUANTITIES = {
    "loss": "training loss (nats per image)",
    "count_error": r"$(E[\hat{k}] - k)^2$",
}


def ablation_runs(block: Block) -> pd.DataFrame:
    """Metrics of the runs with changed settings, and of the methods that they change at the same s.

    Raises:
        ExperimentError: there are none.
    """
    runs = block.table("metrics", changes=True)
    cells = [runs[name] for name in ("method", "shared")]
    changed = (runs["changes"] != AS_DEFINED).groupby(cells).transform("any")
    if not changed.any():
        raise ExperimentError(f"the metrics hold no ablation at {block.source}")
    return runs[changed]


def ablation_table(block: Block) -> Table:
    """Number of independent latents, bounds and accuracies of every ablation, below the method as it is."""
    header = ["method: change", "s", "k", "E[k-hat]", "(E[k-hat] - k)^2", "one draw: (k-hat - k)^2", "active latents"]
    header += ["bound, per view", "bound, joint", "S", "I", "seeds"]
    rows, provenance = [], []
    for (method, shared), of_method in ablation_runs(block).groupby(["method", "shared"]):
        for changes in ordered(of_method["changes"], CHANGES):
            part = of_method[of_method["changes"] == changes]
            cells = [
                str(shared),
                str(block.num_factors - shared),
                *count_cells(part, ("count_error", "draw_count_error"), block.num_factors),
            ]
            cells += [spread(part[f"{name}_accuracy"].dropna(), 3) for name in ("shared", "independent")]
            words = f"{METHODS.get(method, method)}: {CHANGES.get(changes, changes)}"
            rows.append([words, *cells, str(part["seed"].nunique())])
            provenance.append(provenance_of(part, METRICS_FILE))
    title = f"Ablations on {block.source}: mean ± standard error over seeds (S, I: ± standard deviation)"
    return Table(title, header, rows, provenance)


def figure_13(block: Block) -> Figure:
    """Training loss and squared error of the number of independent latents over two settings of HGVAE."""
    runs, history = ablation_runs(block), block.table("history", changes=True)
    last = history[history["epoch"] == history.groupby("run_id")["epoch"].transform("max")]
    runs = runs[runs["method"] == "hgvae"].assign(loss=runs["run_id"].map(-last.set_index("run_id")["bound"]))
    columns = {}
    for setting in SETTINGS:
        alone = runs[runs["changes"].str.fullmatch(rf"training\.{setting}=\S+")]
        cells = pd.MultiIndex.from_frame(alone[["shared", "seed"]])  # seeds differ more than settings
        plain = runs[(runs["changes"] == AS_DEFINED) & pd.MultiIndex.from_frame(runs[["shared", "seed"]]).isin(cells)]
        columns[setting] = pd.concat([plain, alone])
    shown = pd.concat(columns.values())
    if shown.empty:
        raise ExperimentError(f"the metrics hold no ablation of {' or '.join(SETTINGS.values())} at {block.source}")
    pairs = [str(shared) for shared in sorted(shown["shared"].unique())]
    styles = {shared: look(shared, pairs) if len(pairs) > 1 else block.style("hgvae") for shared in pairs}
    entries: dict[str, Any] = {}
    figure, axes = plt.subplots(2, 2, figsize=(7.6, 5.2), sharex="col", sharey="row")
    for column, (setting, words) in enumerate(SETTINGS.items()):
        for row, (quantity, axis) in enumerate(QUANTITIES.items()):
            ax: Axes = axes[row, column]
            if columns[setting].empty:
                ax.set_axis_off()
                no_run(ax)
                continue
            for shared, part in columns[setting].groupby("shared"):
                draw_means(ax, part, setting, quantity, label=f"s = {shared}", **styles[str(shared)])
                ax.plot(part[setting], part[quantity], linestyle="", marker=".", markersize=3, color="0.45", zorder=3)
            ax.set_xscale("log")
            ax.set_ylabel(axis if column == 0 else "")
            ax.set_xlabel(words if row == 1 else "")
            handles, labels = ax.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
    if len(pairs) > 1:
        legend_above(figure, (list(entries.values()), list(entries)), len(pairs))
    caption = (
        "HGVAE over the final temperature and over the learning rate, each changed alone. Above: training loss of the "
        "last part of the training; below: squared error of the number of independent latents, pairs share "
        f"{' or '.join(pairs)} factors. Lines: mean over the seeds that finished, bars: its standard error, dots: "
        "single seeds. "
        f"{block.described(shown)}"
    )
    add_caption(figure, caption)
    return figure
