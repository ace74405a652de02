"""Table 1 and the numbers of Figure 2, block by block, from the collected metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.common.collected import describe_commits, describe_seconds, ordered
from experiments.common.paper import paper_value
from experiments.common.provenance import Provenance, provenance_of
from experiments.common.tables import NOTHING, Table, spread
from experiments.weak_supervision.blocks import (
    DATA,
    METHODS,
    PAPER_METHODS,
    ROOM,
    SHARED,
    Block,
    independent_factors,
    label,
    listed,
    mean_and_error,
)

METRICS_FILE = f"{ROOM}_metrics.csv"
PARTS = {"shared": "S", "independent": "I"}
ERRORS = {  # column of the metrics -> heading
    "count_error": "(E[k-hat] - k)^2",
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


def figure_2_table(block: Block) -> Table:
    """The numbers of Figure 2, and the bounds, a line for every method and s with a run."""
    header = ["method", "s", "k", "latents", "E[k-hat]", *ERRORS.values(), "active latents"]
    header += ["bound, per view", "bound, joint", "seeds"]
    rows, provenance = [], []
    for method in block.methods:
        for shared in block.shared:
            runs = block.runs(method, shared)
            if runs.empty:
                continue
            cells = [str(shared), str(independent_factors(shared)), listed(runs["latents"].tolist())]
            cells.append(with_error(runs["expected_count"], 2))
            cells += [with_error(runs[column], 2) for column in ERRORS]
            cells.append(with_error(runs["active_latents"], 1))
            cells += [with_error(runs[f"{bound}_bound"], 2) for bound in ("per_view", "joint")]
            rows.append([label(method), *cells, str(runs["seed"].nunique())])
            provenance.append(provenance_of(runs, METRICS_FILE))
    title = f"Figure 2 on {block.source}: mean ± standard error over seeds; bounds in nats per image"
    return Table(title, header, rows, provenance)


def notes(block: Block, runs: pd.DataFrame | None = None) -> str:
    """Says how numbers were made.

    Args:
        block: One profile on one data set.
        runs: The runs behind the numbers; None for all that Table 1 and Figure 2 show, and then also which are missing.
    """
    missing = block.missing if runs is None else {}
    runs = block.metrics if runs is None else runs
    by_method = {method: runs[runs["method"] == method] for method in ordered(runs["method"], METHODS)}
    rates = {label(method): listed(part["learning_rate"].tolist()) for method, part in by_method.items()}
    each = "; ".join(f"{name} {rate}" for name, rate in rates.items())
    sizes = listed(runs["image_size"].tolist())
    lines = {
        "data": f"{DATA.get(block.data, block.data)}, {sizes} x {sizes} pixels",
        "profile": block.profile,
        "steps": f"{listed(runs['steps'].tolist())} of {listed(runs['batch_size'].tolist())} pairs",
        "learning rate": each if len(set(rates.values())) > 1 else next(iter(rates.values())),
        "seeds": listed(runs["seed"].tolist()),
        "hardware": ", ".join(sorted(runs["device"].unique())),
        "time per run": describe_seconds(runs),
        "commit": describe_commits(runs),
    }
    if missing:
        lines["no run"] = "; ".join(f"{label(method)} at s = {listed(shared)}" for method, shared in missing.items())
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())

