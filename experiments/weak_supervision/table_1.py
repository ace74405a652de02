"""Table 1 and the numbers of Figure 2 for one block of collected metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import pandas as pd

from experiments.results import (
    Provenance,
    describe_commits,
    describe_seconds,
    ordered,
    paper_value,
    provenance_of,
    spread,
)
from experiments.tables import NOTHING, Table
from experiments.weak_supervision.blocks import (
    ROOM,
    SHARED,
    Block,
    count_of_held,
    label,
    listed,
    mean_and_error,
    with_scaled_error,
)
from experiments.weak_supervision.methods import METHODS, PAPER_METHODS

METRICS_FILE = f"{ROOM}_metrics.csv"
PARTS = {"shared": "S", "independent": "I"}
ERRORS = {  # column of the metrics -> heading
    "count_error": "(E[k-hat] - k)^2",
    "scaled_count_error": "scaled: (7 E[k-hat] / d - k)^2",
    "draw_count_error": "one draw: (k-hat - k)^2",
    "shared_error": "literal: (d - E[k-hat] - s)^2",
}


def _parts(shared: int) -> list[str]:
    """What a pair has: without shared factors there is nothing to find in the shared part."""
    return [part for part in PARTS if part == "independent" or shared > 0]


def with_error(values: pd.Series, decimals: int) -> str:
    """Writes mean and standard error of the mean; the mean alone for one value, "-" for none."""
    if values.empty:
        return NOTHING
    mean, error = mean_and_error(values)
    return f"{mean:.{decimals}f}" + ("" if math.isnan(error) else f" ± {error:.{decimals}f}")


def _seeds(runs: pd.DataFrame, shared: Sequence[int]) -> str:
    """Number of seeds, or the lowest and highest where they differ."""
    counts = sorted({runs.loc[runs["shared"] == one, "seed"].nunique() for one in shared})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


def table_1(block: Block, paper: Mapping[str, Any]) -> Table:
    """Accuracies on the shared and independent parts for every method and s.

    Args:
        block: One profile on one data set.
        paper: The paper's numbers.
    """
    shown = ordered([*SHARED, *block.shared], SHARED)
    header, rows = ["method"], []
    provenance: list[Provenance | None] = []
    for shared in shown:
        first, *others = (PARTS[part] for part in _parts(shared))
        header += [f"s = {shared}: {first}", *others]
    header.append("seeds")
    for method in ordered([*METHODS, *block.methods], METHODS):
        runs, cells = block.runs(method), []
        for shared in shown:
            of_pairs = runs[runs["shared"] == shared]
            cells += [spread(of_pairs[f"{part}_accuracy"].dropna(), 3) for part in _parts(shared)]
        rows.append([label(method), *cells, _seeds(runs, shown)])
        provenance.append(provenance_of(runs, METRICS_FILE))
    printed: dict[tuple[str, ...], list[str]] = {}  # methods with the same cells share a line
    for method, name in PAPER_METHODS.items():
        printed.setdefault(tuple(_paper_cells(paper[method], shown)), []).append(name)
    rows += [[f"paper: {', '.join(names)}", *cells, "3"] for cells, names in printed.items()]
    provenance += [None] * len(printed)
    title = f"Table 1 on {block.source}: adjusted balanced accuracy, mean ± standard deviation over seeds"
    return Table(title, header, rows, provenance)


def _paper_cells(values: Mapping[int, Mapping[str, Any]], shown: Sequence[int]) -> list[str]:
    cells = []
    for shared in shown:
        for part in _parts(shared):
            cells.append(paper_value(values.get(shared, {}).get(part), 2) if shared in SHARED else NOTHING)
    return cells


def count_cells(runs: pd.DataFrame, errors: Sequence[str], num_factors: int) -> list[str]:
    """E[k-hat], its errors, the active latents and the bounds of some runs of one method and s."""
    runs = with_scaled_error(runs, num_factors)
    cells = [with_error(runs[column], 2) for column in ("expected_count", *errors)]
    cells.append(with_error(runs["active_latents"], 1))
    return cells + [with_error(runs[f"{bound}_bound"], 2) for bound in ("per_view", "joint")]


def apart(runs: pd.DataFrame) -> str:
    """Active independent, active shared and inactive latents, means over the runs that counted them."""
    counted = runs[["active_independent", "active_shared", "inactive"]].dropna()
    means = " / ".join(f"{mean:.1f}" for mean in counted.mean())
    return of_some(means, counted, runs) if len(counted) else NOTHING


def of_some(text: str, values: Sized, runs: Sized) -> str:
    """Says of how many runs a number is, where it is not of all."""
    return text if len(values) in (0, len(runs)) else f"{text} ({len(values)} of {len(runs)})"


def figure_2_table(block: Block) -> Table:
    """The numbers of Figure 2, and the bounds, a line for every method and s with a run."""
    header = ["method", "s", "k", "latents", "E[k-hat]", *ERRORS.values(), "active latents"]
    header += ["bound, per view", "bound, joint", "A: independent / shared / inactive", "T", "seeds"]
    rows, provenance = [], []
    for method in block.methods:
        for shared in block.shared:
            runs = block.runs(method, shared)
            if len(runs):
                held = count_of_held(runs, block.num_factors).dropna()
                cells = [str(shared), str(block.num_factors - shared), listed(runs["latents"])]
                rows.append(
                    [
                        label(method),
                        *cells,
                        *count_cells(runs, list(ERRORS), block.num_factors),
                        apart(runs),
                        of_some(with_error(held, 2), held, runs),
                        str(runs["seed"].nunique()),
                    ]
                )
                provenance.append(provenance_of(runs, METRICS_FILE))
    title = f"Figure 2 on {block.source}: mean ± standard error over seeds; bounds in nats per image"
    return Table(title, header, rows, provenance)


def notes(block: Block, runs: pd.DataFrame | None = None) -> str:
    """Says how numbers were made.

    Args:
        block: One profile on one data set.
        runs: The runs behind the numbers; None for all that Table 1 and Figure 2 show, and then also which are missing.
    """
    missing = {}
    if runs is None:
        runs = block.metrics
        there = set(zip(runs["method"], runs["shared"]))
        missing = {one: [shared for shared in SHARED if (one, shared) not in there] for one in METHODS}
    methods = ordered(runs["method"], METHODS)
    rates = {label(method): listed(runs.loc[runs["method"] == method, "learning_rate"]) for method in methods}
    each = "; ".join(f"{name} {rate}" for name, rate in rates.items())
    sizes = listed(runs["image_size"])
    lines = {
        "data": f"{block.data_in_words}, {sizes} x {sizes} pixels",
        "profile": block.profile,
        "steps": f"{listed(runs['steps'])} of {listed(runs['batch_size'])} pairs",
        "learning rate": each if len(set(rates.values())) > 1 else next(iter(rates.values())),
        "seeds": listed(runs["seed"]),
        "hardware": ", ".join(sorted(runs["device"].unique())),
        "time per run": describe_seconds(runs),
        "commit": describe_commits(runs),
    }
    if any(missing.values()):
        lines["no run"] = "; ".join(
            f"{label(one)} at s = {listed(shared)}" for one, shared in missing.items() if shared
        )
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())
