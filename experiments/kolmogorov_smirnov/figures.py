"""Figures 1, 4, 9 and 10 from the collected metrics, each with the truth beside the paper's claim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figures import add_caption, look, shades
from experiments.kolmogorov_smirnov.tables import most_rejected, read_lines
from experiments.settings import ExperimentError

SAMPLER = "straight_through"  # the differentiable formulation, which the paper tests


class Plan(NamedTuple):
    """What a figure of the paper shows."""

    series: str
    symbol: str  # of the varied parameter
    groups: tuple[int, ...]  # from 1, whose histograms are shown
    tests: bool  # whether distances and p-values are shown
    urn: str  # the fixed parameters, for the caption


WEIGHTS_URN = r"$m = (200, 200, 200)$, $n = 180$, $\omega = (1, \omega_2, 1)$"
DRAWS_URN = r"$m = (200, 200, 200)$, $\omega = (1, 5, 1)$; the values of $n$ are ours"
SIZES_URN = r"$m = (200, m_2, 200)$, $n = 200$, $\omega = (1, 5, 1)$; the values of $m_2$ are ours"
PLANS = {
    1: Plan("weights", r"$\omega_2$", (2,), True, WEIGHTS_URN),
    4: Plan("weights", r"$\omega_2$", (1, 3), False, WEIGHTS_URN),
    9: Plan("draws", r"$n$", (1, 2, 3), True, DRAWS_URN),
    10: Plan("sizes", r"$m_2$", (1, 2, 3), True, SIZES_URN),
}
CONDITIONALS = {"merged": "merged conditionals (paper)", "exact": "exact conditionals (ours)"}
COMPARISONS = (
    ("merged", "merged", "the paper's test:\nmerged against merged reference"),
    ("merged", "exact", "merged against\nthe exact law"),
    ("exact", "exact", "exact conditionals against\nthe exact law"),
)


def figures(metrics: Path) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure from a folder of collected metrics, by the name of its file.

    Raises:
        ExperimentError: there are no such metrics.
    """
    tables = [read_lines(metrics, f"kolmogorov_smirnov_{name}") for name in ("metrics", "histograms")]
    return {f"figure_{number}": partial(draw, number, *tables) for number in PLANS}


def select(table: pd.DataFrame, series: str, conditionals: str) -> pd.DataFrame:
    """Returns the lines of one run of the differentiable sampler.

    Raises:
        ExperimentError: there are none.
    """
    at = (table["series"] == series) & (table["conditionals"] == conditionals) & (table["sampler"] == SAMPLER)
    if not at.any():
        raise ExperimentError(f"no run of series={series} conditionals={conditionals} sampler={SAMPLER}")
    return table[at]


def draw(number: int, metrics: pd.DataFrame, histograms: pd.DataFrame) -> Figure:
    """Returns one figure of the paper.

    Args:
        number: A key of ``PLANS``.
        metrics: Lines of ``kolmogorov_smirnov_metrics.csv`` of one profile and seed.
        histograms: Lines of ``kolmogorov_smirnov_histograms.csv`` of the same.

    Raises:
        ExperimentError: what the figure shows has no run.
    """
    plan = PLANS[number]
    width, height = 3.4 * max(len(plan.groups), 3 if plan.tests else 0), 5.0
    figure = plt.figure(figsize=(width, height + 4.2 * plan.tests))
    parts: Any = figure.subfigures(2, 1, height_ratios=(5.0, 4.2)) if plan.tests else [figure]
    grid = parts[0].subplots(2, len(plan.groups), squeeze=False, sharex="col", sharey="col")
    for line, (conditionals, title) in zip(grid, CONDITIONALS.items()):
        own = select(histograms, plan.series, conditionals)
        for axes, group in zip(line, plan.groups, strict=True):
            _draw_histograms(axes, own[own["group"] == group], conditionals, inches=width / len(plan.groups))
            axes.set_title(f"{title}, group {group}")
        line[0].set_ylabel("relative frequency")
    for axes, group in zip(grid[1], plan.groups, strict=True):
        axes.set_xlabel(rf"count $x_{group}$")
    handles = [
        Patch(color="grey", alpha=0.45, linewidth=0, label="draws"),
        Line2D([], [], color="grey", linewidth=1, label="merged SciPy reference"),
        Line2D([], [], color="black", linestyle=":", linewidth=0.9, label="exact law"),
    ]
    parts[0].legend(handles=handles, title=f"numbers at the peaks: {plan.symbol}", loc="outside upper center", ncols=3)
    if plan.tests:
        grid = parts[1].subplots(2, 3, sharex=True, sharey="row")
        for (distance, p_value), (conditionals, reference, title) in zip(grid.T, COMPARISONS, strict=True):
            own = select(metrics, plan.series, conditionals)
            _draw_tests(distance, p_value, own[own["reference"] == reference])
            distance.set_title(title)
            p_value.set_xlabel(plan.symbol)
        grid[0, 0].set(yscale="log", ylabel="KS distance D")
        grid[1, 0].set(ylabel="corrected p-value", ylim=(-0.03, 1.25), yticks=np.linspace(0, 1, 5))
        grid[0, 2].legend(fontsize=7, loc="upper right", ncols=3)
    add_caption(figure, caption(number, plan, metrics))
    return figure


def _draw_histograms(axes: Axes, histograms: pd.DataFrame, conditionals: str, inches: float) -> None:
    """The draws (filled), the merged reference (steps) and the exact law (dotted), one colour per value."""
    colours = shades(np.sort(histograms["value"].unique()))
    labelled: list[tuple[float, float]] = []  # peaks with a number; the next one needs room beside or above these
    beside = 0.08 / inches * np.ptp(histograms["count"]) * len(f"{histograms['value'].max():g}")
    above = 0.08 * (histograms["drawn"] / histograms.groupby("value")["drawn"].transform("sum")).max()
    for value, own in histograms.groupby("value"):
        colour, count, drawn = colours[value], own["count"].to_numpy(), own["drawn"].to_numpy()
        drawn = drawn / drawn.sum()
        axes.fill_between(count, drawn, step="mid", color=colour, alpha=0.45, linewidth=0)
        if conditionals == "merged":
            reference = own["merged_reference"] / own["merged_reference"].sum()
            axes.step(count, reference, where="mid", color=colour, linewidth=1)
        axes.plot(count, own["exact_probability"], color="black", linestyle=":", linewidth=0.9)
        peak = int(drawn.argmax())
        place = count[peak], drawn[peak]
        if all(abs(place[0] - x) > beside or abs(place[1] - y) > above for x, y in labelled):
            labelled.append(place)
            axes.annotate(f"{value:g}", place, textcoords="offset points", xytext=(0, 2), ha="center", fontsize=7)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)  # room for the numbers


def _draw_tests(distance: Axes, p_value: Axes, tests: pd.DataFrame) -> None:
    """KS distance above, corrected p-value below, one marker per group, with what is detectable and the threshold."""
    for group, own in tests.groupby("group"):
        style = look(str(group), "123") | {"label": f"group {group}", "linestyle": "-"}
        distance.plot(own["value"], own["ks_distance"], **style)
        p_value.plot(own["value"], own["ks_p_corrected"], **style)
    for axes, threshold in ((distance, tests["ks_detectable"].iloc[0]), (p_value, 0.05)):
        axes.axhline(threshold, color="black", linestyle="--", linewidth=0.8)
    text = f"{int(tests['rejected'].sum())} of {len(tests)} rejected"
    p_value.text(0.98, 0.98, text, transform=p_value.transAxes, ha="right", va="top")


def caption(number: int, plan: Plan, metrics: pd.DataFrame) -> str:
    """What is shown, from which data, profile and number of draws, and what chance gives."""
    own = select(metrics, plan.series, "exact")
    first = own.iloc[0]
    text = (
        f"Figure {number}. Urns with {plan.urn}. {int(first['draws']):,} draws per urn of the straight-through "
        f"sampler, profile {first['profile']}, seed {first['seed']}, {first['device']}. "
    )
    if plan.tests:
        urns = own["value"].nunique()
        text += (
            "Dashed: the smallest D rejected at 0.05 with these draws (above) and the threshold 0.05 (below). p-values "
            "are corrected over the three groups of an urn (Benjamini-Hochberg). Chance alone gives at most "
            f"{most_rejected(urns)} of {urns} urns with a rejection with a probability of 99.9 %. "
        )
    return text + (
        "The merged reference shares the approximation and the group order of the merged sampler, so that test "
        "cannot see the difference to the exact law."
    )
