"""The figure and the table of the gradient study, from its CSV alone."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; markers and dashes do the same in grey.
STYLES = {
    "exact": ("straight-through, exact conditionals", "#0072B2", "o", "-"),
    "merged": ("straight-through, merged conditionals", "#D55E00", "s", "--"),
    "authors": ("authors' code", "#000000", "^", ":"),
    "score function": ("score function, exact control variate", "#009E73", "D", "-."),
}
SHIFTS = {"exact": 0.97, "merged": 1.03, "authors": 1.09, "score function": 1.0}
QUANTITIES = {
    "error": "error of the mean gradient\n/ exact gradient",
    "standard_deviation": "standard deviation of one\nsample's gradient / exact gradient",
}
DETERMINISTIC: dict[str, dict[str, Any]] = {
    ".png": {"metadata": {"Software": None}, "dpi": 150},
    ".pdf": {"metadata": {"Creator": None, "Producer": None, "CreationDate": None}},
}


def read(path: Path) -> pd.DataFrame:
    """The study's table.

    Raises:
        ValueError: the file lacks a column.
    """
    frame = pd.read_csv(path, keep_default_na=True)
    missing = {"estimator", "urn", "weights", "function", "temperature", *QUANTITIES} - set(frame.columns)
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}; make it with gradient_study.py.")
    return frame


def _draw(axes: Axes, part: pd.DataFrame, quantity: str) -> None:
    temperatures = sorted(part["temperature"].dropna().unique())
    for estimator, (label, colour, marker, dashes) in STYLES.items():
        chosen = part[part["estimator"] == estimator]
        if chosen.empty:
            continue
        if chosen["temperature"].isna().all():
            # No temperature: the same value all along the axis. Its error is sampling noise alone.
            span = chosen[quantity].agg(["min", "mean", "max"])
            axes.axhline(span["mean"], color=colour, linestyle=dashes, label=label, linewidth=1.4)
            axes.axhspan(span["min"], span["max"], color=colour, alpha=0.12, linewidth=0)
            continue
        span = chosen.groupby("temperature")[quantity].agg(["min", "mean", "max"]).loc[temperatures]
        axes.errorbar(
            span.index * SHIFTS[estimator],
            span["mean"],
            yerr=[span["mean"] - span["min"], span["max"] - span["mean"]],
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

    Points are means over the sets of weights, bars reach from the least to the largest.
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


def _cell(row: pd.Series) -> str:
    return f"{100 * row['error']:.1f} ± {100 * row['standard_error']:.1f} % ({row['standard_deviation']:.1f})"


def markdown(frame: pd.DataFrame, temperature: float = 0.5) -> str:
    """The table at one temperature, and the worst error at each."""
    keys = ["urn", "weights", "function"]
    at = frame[(frame["temperature"] == temperature) | frame["temperature"].isna()]
    estimators = [name for name in STYLES if name in set(at["estimator"])]
    names = [STYLES[name][0] for name in estimators]
    explanation = (
        f"Temperature {temperature:g}. Error of the mean gradient ± its standard error, over max(norm of the exact "
        "gradient, floor); in brackets the standard deviation of one sample's gradient over the same. The floor is "
        "sd(f) sqrt(sum_i Var x_i) / 10, a tenth of the bound that Cauchy and Schwarz put on the gradient. The exact "
        "gradient is by enumeration. The score function is (f(x) - mean of f) (x - E[x]): unbiased, its error is noise."
    )
    lines = [
        "# Gradients of E[f(x)] with respect to log omega",
        "",
        explanation,
        "",
        "| urn | weights | f | " + " | ".join(names) + " | to reach (exact) | reached |",
        "|---" * (len(names) + 5) + "|",
    ]
    for key, part in at.groupby(keys, sort=False):
        rows = {row["estimator"]: row for _, row in part.iterrows()}
        judged = rows["exact"]
        cells = [_cell(rows[name]) for name in estimators]
        target = f"{100 * judged['target']:.0f} %" if pd.notna(judged["target"]) else ""
        reached = judged["reached"] if pd.notna(judged["reached"]) else ""
        lines.append("| " + " | ".join([*key, *cells, target, reached]) + " |")
    worst = frame.dropna(subset="temperature").groupby(["urn", "estimator", "temperature"], sort=False)
    lines += ["", "Worst over weights and functions at each temperature, error (standard deviation):", ""]
    temperatures = sorted(frame["temperature"].dropna().unique())
    lines.append("| urn | estimator | " + " | ".join(f"{value:g}" for value in temperatures) + " |")
    lines.append("|---" * (len(temperatures) + 2) + "|")
    largest = worst[["error", "standard_deviation"]].max()
    for urn in frame["urn"].unique():
        for name in estimators:
            if (urn, name) in set(largest.index.droplevel("temperature")):
                part = largest.loc[urn, name]
                cells = [
                    f"{100 * part.loc[t, 'error']:.1f} % ({part.loc[t, 'standard_deviation']:.1f})"
                    for t in temperatures
                ]
                lines.append("| " + " | ".join([urn, STYLES[name][0], *cells]) + " |")
    return "\n".join(lines) + "\n"
