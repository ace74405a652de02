"""Draws Figures 7 and 8 and the recovery figure of the urn experiment, and its table, from committed metrics.

Figure 7: training and validation loss over the steps. Figure 8: estimated log weights over the steps. Both show the
paper's merged conditionals above the exact ones, with the truth at the right edge. The recovery figure shows how far
from the truth every estimator ends.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

TRAINED = {"urn/merged": "merged conditionals (paper)", "urn/exact": "exact conditionals"}
MAXIMUM_LIKELIHOOD = "urn/maximum_likelihood"
SQUARED_LOSS_OPTIMUM = "urn/squared_loss_optimum"
# Okabe-Ito colours, each with a marker and a line style of its own so that the figures read in grey.
ESTIMATORS = {
    "urn/merged": ("SGD, merged conditionals (paper)", {"color": "#D55E00", "marker": "s", "linestyle": "-"}),
    "urn/exact": ("SGD, exact conditionals", {"color": "#0072B2", "marker": "o", "linestyle": "--"}),
    MAXIMUM_LIKELIHOOD: ("exact maximum likelihood", {"color": "#000000", "marker": "+", "linestyle": ":"}),
    SQUARED_LOSS_OPTIMUM: ("minimum of the squared loss", {"color": "#009E73", "marker": "x", "linestyle": "-."}),
}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}


def read(metrics: Path, table: str) -> pd.DataFrame:
    """The table of all urn rows, restricted to the largest profile that is there."""
    path = metrics / f"urn_{table}.csv"
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: run the urn experiment and scripts/aggregate.py first")
    frame = pd.read_csv(path)
    for profile in ("paper", "quick", "smoke"):
        if (frame["profile"] == profile).any():
            return frame[frame["profile"] == profile]
    raise SystemExit(f"{path} holds no run of the profiles paper, quick or smoke")


def dataset_colours(second_weights: list[float]) -> tuple[dict[float, tuple[float, ...]], ScalarMappable]:
    """A colour per dataset, dark to light, and the mappable for the colour bar."""
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(second_weights)))
    boundaries = np.arange(len(second_weights) + 1) - 0.5
    mappable = ScalarMappable(BoundaryNorm(boundaries, len(second_weights)), ListedColormap(colours))
    return dict(zip(second_weights, map(tuple, colours), strict=True)), mappable


def add_colour_bar(figure: Figure, axes: np.ndarray, mappable: ScalarMappable, second_weights: list[float]) -> None:
    bar = figure.colorbar(mappable, ax=axes, ticks=range(len(second_weights)), fraction=0.03, pad=0.02)
    bar.ax.set_yticklabels([f"{weight:g}" for weight in second_weights])
    bar.ax.set_title(r"$\omega_{gt,2}$", fontsize=9)
    bar.ax.grid(False)


def figure_7(history: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Losses over the steps; triangles at the right mark the expected loss at the true weights."""
    second_weights = sorted(history["second_weight"].unique())
    colours, mappable = dataset_colours(second_weights)
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 5.6), sharex=True, sharey=True, layout="constrained")
    columns = {"train_loss": "training loss", "validation_loss": "validation loss"}
    for row, (name, title) in enumerate(TRAINED.items()):
        for column, (quantity, label) in enumerate(columns.items()):
            ax: Axes = axes[row, column]
            for weight, curve in history[history["row"] == name].groupby("second_weight"):
                ax.plot(curve["step"], curve[quantity], color=colours[weight], linewidth=1.1)
            ends = metrics[metrics["row"] == name].set_index("second_weight")["expected_squared_loss_truth"]
            for weight, value in ends.items():
                ax.plot(
                    1.015, value, marker="<", color=colours[weight], markersize=4, transform=_right(ax), clip_on=False
                )
            ax.set_title(f"{label}, {title}", fontsize=9)
            ax.set_yscale("log")
            if column == 0:
                ax.set_ylabel(r"$\sum_c (X_{D,c} - X_c)^2$")
            if row == 1:
                ax.set_xlabel("training step")
    add_colour_bar(figure, axes, mappable, second_weights)
    _bottom_legend(
        figure,
        [Line2D([], [], marker="<", color="grey", linestyle="", markersize=4)],
        ["expected loss at the true weights under the exact law"],
    )
    return figure


def figure_8(history: pd.DataFrame, weights: pd.DataFrame) -> Figure:
    """Log weights over the steps; at the right, truth and maximum likelihood at the scale where the run ends."""
    second_weights = sorted(history["second_weight"].unique())
    groups = sorted(weights["group"].unique())
    colours, mappable = dataset_colours(second_weights)
    figure, axes = plt.subplots(2, len(groups), figsize=(9.6, 5.8), sharex=True, sharey=True, layout="constrained")
    likelihood = weights[weights["row"] == MAXIMUM_LIKELIHOOD].set_index(["second_weight", "group"])
    for row, (name, title) in enumerate(TRAINED.items()):
        run = weights[weights["row"] == name].set_index(["second_weight", "group"])
        for column, group in enumerate(groups):
            ax: Axes = axes[row, column]
            for weight, curve in history[history["row"] == name].groupby("second_weight"):
                ax.plot(curve["step"], curve[f"log_weight_{group}"], color=colours[weight], linewidth=1.1)
                end = run.loc[(weight, group)]
                # The law does not depend on the scale of the weights, so the truth is shown at the scale of the run.
                scale = end["log_weight"] - end["log_weight_centred"]
                style = {"color": colours[weight], "transform": _right(ax), "clip_on": False, "linestyle": ""}
                ax.plot(1.03, end["log_weight_true_centred"] + scale, marker="<", markersize=5, **style)
                if (weight, group) in likelihood.index:
                    value = likelihood.loc[(weight, group), "log_weight_centred"] + scale
                    ax.plot(1.08, value, marker="+", markersize=6, **style)
            ax.set_title(rf"$\log\omega_{group}$, {title}", fontsize=9)
            if column == 0:
                ax.set_ylabel("estimated log weight")
            if row == 1:
                ax.set_xlabel("training step")
    add_colour_bar(figure, axes, mappable, second_weights)
    handles = [Line2D([], [], marker=marker, color="grey", linestyle="", markersize=6) for marker in "<+"]
    _bottom_legend(figure, handles, ["truth", "exact maximum likelihood (both at the scale where the run ends)"])
    return figure


def figure_recovery(metrics: pd.DataFrame, weights: pd.DataFrame) -> Figure:
    """Log odds of group 2 against groups 1 and 3, minus the truth, and the error in standard errors."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="constrained")
    for ax, other in zip(axes, (1, 3), strict=False):
        for name, (label, style) in ESTIMATORS.items():
            frame = weights[weights["row"] == name]
            table = frame.pivot_table(index=["seed", "second_weight"], columns="group", values="log_weight_centred")
            odds = (table[2] - table[other]).groupby("second_weight")
            mean = odds.mean()
            ax.plot(np.log(mean.index), mean, label=label, markersize=5, linewidth=1, fillstyle="none", **style)
        limits = np.log(metrics["second_weight"].agg(["min", "max"]))
        ax.plot(limits, limits, color="0.6", linewidth=4, alpha=0.5, zorder=0, label="truth")
        ax.set_xlabel(rf"true $\log(\omega_2 / \omega_{other})$")
        ax.set_ylabel(rf"recovered $\log(\omega_2 / \omega_{other})$")
    for name, (_, style) in ESTIMATORS.items():
        errors = metrics[metrics["row"] == name].groupby("second_weight")["rmse_standard_errors"].mean()
        axes[2].plot(errors.index, errors, markersize=5, linewidth=1, fillstyle="none", **style)
    axes[2].axhline(1, color="0.6", linewidth=1)
    axes[2].set_yscale("log")
    axes[2].set_xlabel(r"true $\omega_2$")
    axes[2].set_ylabel("error of the log weights / standard error")
    _bottom_legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def table_recovery(metrics: pd.DataFrame) -> str:
    """Markdown: the error of every estimator on every dataset, mean over the seeds."""
    rows = [row for row in ESTIMATORS if (metrics["row"] == row).any()]
    cells = metrics.groupby(["second_weight", "row"])[["rmse", "rmse_standard_errors"]].mean()
    caption = (
        "Root mean square error of the recovered log weights (scale removed), in brackets in units of the standard "
        f"errors of the maximum-likelihood fit; profile {', '.join(sorted(metrics['profile'].unique()))}, "
        f"mean over {metrics['seed'].nunique()} seed(s)."
    )
    lines = [
        caption,
        "",
        "| true weight of group 2 | " + " | ".join(ESTIMATORS[row][0] for row in rows) + " |",
        "|---:|" + "---:|" * len(rows),
    ]
    for weight in sorted(metrics["second_weight"].unique()):
        values = [cells.loc[(weight, row)] for row in rows]
        line = " | ".join(f"{value['rmse']:.4f} ({value['rmse_standard_errors']:.2f})" for value in values)
        lines.append(f"| {weight:g} | {line} |")
    return "\n".join(lines) + "\n"


def _right(ax: Axes):
    """Transform with x in axes fractions and y in data units, for marks beside the right edge."""
    return ax.get_yaxis_transform()


def _bottom_legend(figure: Figure, handles: list, labels: list[str]) -> None:
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)


def save(figure: Figure, output: Path, name: str) -> None:
    # Without the date and the version of the software, equal input gives equal bytes.
    figure.savefig(output / f"{name}.png", dpi=160, metadata={"Software": None})
    figure.savefig(output / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder with urn_*.csv")
    parser.add_argument("--output", type=Path, default=Path("results/figures"), help="folder for the figures")
    parser.add_argument("--tables", type=Path, help="folder for the table; none is written without it")
    arguments = parser.parse_args()
    metrics, weights, history = (read(arguments.metrics, table) for table in ("metrics", "weights", "history"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        # Curves of one run: the lowest seed. The recovery figure is a mean over all seeds.
        first = [frame[frame["seed"] == frame["seed"].min()] for frame in (history, metrics, weights)]
        save(figure_7(first[0], first[1]), arguments.output, "figure_7_urn_losses")
        save(figure_8(first[0], first[2]), arguments.output, "figure_8_urn_log_weights")
        save(figure_recovery(metrics, weights), arguments.output, "urn_recovery")
    if arguments.tables is not None:
        arguments.tables.mkdir(parents=True, exist_ok=True)
        (arguments.tables / "urn_recovery.md").write_text(table_recovery(metrics))


if __name__ == "__main__":
    main()
