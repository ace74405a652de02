"""The benchmark's pages: the worst cell is named as loudly as the best."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from experiments.environment import environment_facts
from experiments.figures import COLOURS, MARKERS, add_caption, draw
from experiments.speed.measure import comparison
from experiments.speed.tables import benchmark_table
from experiments.store import write_atomically

Sections = dict[str, tuple[str, pd.DataFrame]]  # name of the CSV -> heading and text before its table, and the table


def before_a_run(accelerator: str = "cpu") -> dict[str, Any]:
    """Code, versions, device, cores, date, and the load average as they stand before anything is measured.

    ``load_average`` counts the processes that wanted a core in the minute before: clearly above zero, the machine was
    not idle.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    date = datetime.now(timezone.utc).date().isoformat()
    return environment_facts(accelerator) | {"cores": os.cpu_count(), "load_average": load, "date": date}


def place(facts: Mapping[str, Any]) -> str:
    """The facts in a sentence or two."""
    commit = str(facts["commit"])[:10] + (" with uncommitted changes" if facts["dirty"] else "")
    load = "" if facts["load_average"] is None else f" Load average before the start: {facts['load_average']:.1f}."
    versions = f"torch {facts['packages']['torch']}, Python {facts['python']}, commit {commit}"
    return f"{facts['device']}, {facts['cores']} cores, {versions}, {facts['date']}.{load}"


def grid_in_words(grid: pd.DataFrame) -> str:
    """Smallest and median ratio first, then memory and what a higher temperature costs."""
    by_temperature = grid.pivot_table(index=["urn", "batch"], columns="temperature", values="ours_ms", sort=False)
    warm = (by_temperature[2.0] / by_temperature[0.5]).max() if {0.5, 2.0} <= set(by_temperature) else float("nan")
    text = ""
    if "ratio" in grid:
        worst, best = grid.loc[grid["ratio"].idxmin()], grid.loc[grid["ratio"].idxmax()]
        below = int((grid["ratio"] < 2).sum())
        text += f"**Slowest cell: {worst.ratio:.2f} times as fast as the authors' code** ({_cell_in_words(worst)}); "
        text += f"median {grid['ratio'].median():.2f}, best {best.ratio:.1f} ({_cell_in_words(best)}); "
        text += f"{below} of {len(grid)} cells below 2. "
        more = grid[grid["ours_mib"] > grid["authors_mib"] + 0.5]
        text += f"More memory than theirs (by over 0.5 MiB) in {len(more)} cells. "
    return text + f"Temperature 2 takes at most {warm:.2f} times the time of temperature 0.5.\n"


def grid_lines(grid: pd.DataFrame) -> list[dict[str, Any]]:
    """Smallest and median ratio of the grid as comparisons; none without the authors' side."""
    if "ratio" not in grid:
        return []
    lines = []
    for name, ratio, target in (("slowest", grid["ratio"].min(), ">= 2"), ("median", grid["ratio"].median(), ">= 4")):
        line = grid.loc[(grid["ratio"] - ratio).abs().idxmin()]
        work = f"selection masks, forward + backward, {name} of {len(grid)} cells"
        note = f"{_cell_in_words(line)}; times as fast"
        numbers = line["ours_ms"], "ms", "authors' code", line["authors_ms"], ratio
        lines.append(comparison(work, *numbers, target, note))
    return lines


def _cell_in_words(line: pd.Series) -> str:
    return f"{line['urn']}, batch {line['batch']}, temperature {line['temperature']:g}"


def ratio_figure(grid: pd.DataFrame) -> Figure:
    """Ratio over the batch size, a line per temperature, a panel per urn."""
    urns = list(grid["urn"].unique())
    figure, panels = plt.subplots(1, len(urns), figsize=(2.3 * len(urns), 2.8), sharey=True)
    for panel, urn in zip(list(panels) if len(urns) > 1 else [panels], urns, strict=True):
        for number, (temperature, lines) in enumerate(grid[grid["urn"] == urn].groupby("temperature")):
            style = {"color": COLOURS[number], "marker": MARKERS[number]}
            panel.plot(lines["batch"], lines["ratio"], label=f"temperature {temperature:g}", **style)
        panel.axhline(1.0, color="black", linewidth=0.8)
        panel.set(xscale="log", yscale="log", title=urn, xlabel="batch")
    figure.axes[0].set_ylabel("authors' time / ours")
    figure.axes[0].legend(fontsize=7)
    add_caption(
        figure,
        "Selection masks forward and backward, both sides in turns on one thread; medians of the rounds' ratios. "
        "Below the black line the authors' code is faster.",
    )
    return figure


def write(
    output: Path,
    title: str,
    sections: Sections,
    facts: Mapping[str, Any],
    left_out: Sequence[str] = (),
) -> list[Path]:
    """Writes a CSV per section, ``<first section>.md`` and ``.json`` beside it, and the figure of the grid.

    Returns:
        The paths written.
    """
    output.mkdir(parents=True, exist_ok=True)
    parts, paths = [f"# {title}\n\n{place(facts)}\n"], []
    main = next(iter(sections))
    for name, (text, table) in sections.items():
        paths.append(output / f"{name}.csv")
        write_atomically(paths[-1], table.to_csv(index=False, lineterminator="\n"))
        heading, _, words = text.partition("\n")
        parts.append(f"## {heading}\n\n{benchmark_table(words.strip(), table).markdown()}")
    if left_out:
        parts.append("Not measured: " + "; ".join(left_out) + ".\n")
    for suffix, text in (("md", "\n".join(parts)), ("json", json.dumps({"environment": dict(facts)}, indent=2) + "\n")):
        paths.append(output / f"{main}.{suffix}")
        write_atomically(paths[-1], text)
    if "grid" in sections and "ratio" in sections["grid"][1]:
        grid = sections["grid"][1]
        paths += draw({"speed_grid": lambda: ratio_figure(grid)}, output)
    return paths
