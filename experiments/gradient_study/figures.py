"""The figure of the gradient study, from its CSV alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import add_caption, legend_above, look
from experiments.settings import ExperimentError

FILE = "gradient_study.csv"
ESTIMATORS = {
    "exact": "straight-through, exact conditionals",
    "merged": "straight-through, merged conditionals",
    "authors": "authors' code",
    "second order": "second order",
    "score function": "score function, exact control variate",
}
QUANTITIES = {
    "error": "relative error\nof the mean gradient",
    "standard_deviation": "relative standard deviation\nof one sample's gradient",
}
FORMULAS = {
    "linear": "$f(x) = x_1 - 2 x_2 + x_3 / 2$",
    "quadratic": "$f(x) = |x - e|^2$",
    "quartic": r"$f(x) = \sum_i (x_i - e_i)^4$",
}


def read(metrics: Path) -> pd.DataFrame:
    """Reads the study's table from a folder of metrics.

    Raises:
        ExperimentError: there is none.
    """
    path = metrics / FILE
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run `make gradient-study` first")
    return pd.read_csv(path)


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws the figure from a folder of metrics, by the name of its file.

    Raises:
        ExperimentError: there is no such study.
    """
    return {"gradient_study": partial(draw, read(metrics))}


def _draw(axes: Axes, part: pd.DataFrame, quantity: str) -> None:
    temperatures = sorted(part["temperature"].dropna().unique())
    for place, (estimator, label) in enumerate(ESTIMATORS.items()):
        chosen, style = part[part["estimator"] == estimator], look(estimator, ESTIMATORS)
        if chosen.empty:
            continue
        if chosen["temperature"].isna().all():
            # No temperature: the same value all along the axis. Its error is sampling noise alone.
            low, high = chosen[quantity].min(), chosen[quantity].max()
            axes.axhline(high, color=style["color"], linestyle=style["linestyle"], label=label)
            axes.axhspan(low, high, color=style["color"], alpha=0.12, linewidth=0)
            continue
        span = chosen.groupby("temperature")[quantity].agg(["min", "max"])
        down = [span["max"] - span["min"], 0 * span["max"]]
        shift = 0.97 + 0.06 * place  # keeps points at one temperature apart
        axes.errorbar(span.index * shift, span["max"], yerr=down, label=label, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    axes.minorticks_off()
    axes.grid(False, axis="x")


def draw(frame: pd.DataFrame) -> Figure:
    """Error (top) and spread (bottom) over the temperature, a column for every urn and function.

    Points are the largest over the sets of weights, bars reach down to the least.
    """
    columns = list(frame[["urn", "function"]].drop_duplicates().itertuples(index=False))
    figure, grid = plt.subplots(2, len(columns), figsize=(2.6 * len(columns), 5.6), sharex=True, sharey="row")
    for column, (urn, function) in enumerate(columns):
        part = frame[(frame["urn"] == urn) & (frame["function"] == function)]
        for row, quantity in enumerate(QUANTITIES):
            _draw(grid[row, column], part, quantity)
        target = part["target"].dropna()
        if not target.empty:
            judged = part.loc[target.index, "temperature"].iloc[0]
            style: Any = {"color": "0.35", "linewidth": 3, "label": "to reach with exact conditionals"}
            grid[0, column].hlines(target.iloc[0], judged / 1.35, judged * 1.35, zorder=1, **style)
        grid[0, column].set_title(f"{urn}\n{FORMULAS.get(function, function)}")
        grid[1, column].set_xlabel("temperature")
    for row, label in enumerate(QUANTITIES.values()):
        grid[row, 0].set_ylabel(label)
    legend_above(figure, grid[0, 0].get_legend_handles_labels(), 3)
    caption = (
        "Above: error of the mean gradient of E[f(x)] with respect to log omega, over the norm of the exact one or a "
        "floor; below: standard deviation of one sample's gradient over the same. Marks: the worst of the sets of "
        "weights, bars: down to the best; lines and bands: the same of estimators without a temperature, of which the "
        f"error of an unbiased one is sampling noise alone. Profile {frame['profile'].iloc[0]}, seed "
        f"{frame['seed'].iloc[0]}, {frame['device'].iloc[0]}."
    )
    add_caption(figure, caption)
    return figure
