"""The figure of the gradient study, from its CSV alone."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common.errors import ExperimentError

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers and dashes do the same in grey.
STYLES = {
    "exact": ("straight-through, exact conditionals", "#0072B2", "o", "-"),
    "merged": ("straight-through, merged conditionals", "#D55E00", "s", "--"),
    "authors": ("authors' code", "#000000", "^", ":"),
    "score function": ("score function, exact control variate", "#009E73", "D", "-."),
}
SHIFTS = {"exact": 0.97, "merged": 1.03, "authors": 1.09, "score function": 1.0}
QUANTITIES = {
    "error": "relative error\nof the mean gradient",
    "standard_deviation": "relative standard deviation\nof one sample's gradient",
}
DETERMINISTIC: dict[str, dict[str, Any]] = {
    ".png": {"metadata": {"Software": None}, "dpi": 150},
    ".pdf": {"metadata": {"Creator": None, "Producer": None, "CreationDate": None}},
}


def read(path: Path) -> pd.DataFrame:
    """The study's table.

    Raises:
        ExperimentError: the file lacks a column.
    """
    frame = pd.read_csv(path, keep_default_na=True)
    missing = {"estimator", "urn", "weights", "function", "temperature", *QUANTITIES} - set(frame.columns)
    if missing:
        raise ExperimentError(f"{path} lacks the columns {', '.join(sorted(missing))}; make it with gradient_study.py.")
    return frame


def _draw(axes: Axes, part: pd.DataFrame, quantity: str) -> None:
    temperatures = sorted(part["temperature"].dropna().unique())
    for estimator, (label, colour, marker, dashes) in STYLES.items():
        chosen = part[part["estimator"] == estimator]
        if chosen.empty:
            continue
        if chosen["temperature"].isna().all():
            # No temperature: the same value all along the axis. Its error is sampling noise alone.
            span = chosen[quantity].agg(["min", "max"])
            axes.axhline(span["max"], color=colour, linestyle=dashes, label=label, linewidth=1.4)
            axes.axhspan(span["min"], span["max"], color=colour, alpha=0.12, linewidth=0)
            continue
        span = chosen.groupby("temperature")[quantity].agg(["min", "max"]).loc[temperatures]
        axes.errorbar(
            span.index * SHIFTS[estimator],
            span["max"],
            yerr=[span["max"] - span["min"], 0 * span["max"]],
            color=colour,
            marker=marker,
            linestyle=dashes,
            label=label,
            markersize=4,
            linewidth=1.4,
            capsize=2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    axes.minorticks_off()
    axes.grid(axis="y", linewidth=0.3, color="0.8")


def draw(frame: pd.DataFrame) -> Figure:
    """Error (top) and spread (bottom) over the temperature, a column for every urn and function.

    Points are the largest over the sets of weights, bars reach down to the least.
    """
    columns = list(frame[["urn", "function"]].drop_duplicates().itertuples(index=False))
    figure, grid = plt.subplots(2, len(columns), figsize=(3.1 * len(columns), 5.6), sharex=True, sharey="row")
    for column, (urn, function) in enumerate(columns):
        part = frame[(frame["urn"] == urn) & (frame["function"] == function)]
        for row, quantity in enumerate(QUANTITIES):
            _draw(grid[row, column], part, quantity)
        target = part["target"].dropna() if "target" in part else pd.Series(dtype=float)
        if not target.empty:
            judged = part.loc[target.index, "temperature"].iloc[0]
            grid[0, column].plot(
                [judged / 1.35, judged * 1.35], [target.iloc[0]] * 2, color="0.35", linewidth=3, zorder=1,
                label="to reach with exact conditionals", solid_capstyle="butt",
            )  # fmt: skip
        formula = {"linear": "$f(x) = x_1 - 2 x_2 + x_3 / 2$", "quadratic": "$f(x) = |x - e|^2$"}.get(
            function, function
        )
        grid[0, column].set_title(f"{urn}\n{formula}", fontsize=9)
        grid[1, column].set_xlabel("temperature")
    for row, label in enumerate(QUANTITIES.values()):
        grid[row, 0].set_ylabel(label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    return figure


def save(figure: Figure, directory: Path, name: str = "gradient_study") -> list[Path]:
    """PNG and PDF; the same figure gives the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, options in DETERMINISTIC.items():
        paths.append(directory / f"{name}{suffix}")
        figure.savefig(paths[-1], **options)
    plt.close(figure)
    return paths
