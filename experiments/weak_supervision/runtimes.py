"""Table 3: seconds per step of the methods, measured side by side, beside the paper's runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.results import Provenance, paper_value
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table
from experiments.weak_supervision.blocks import label
from experiments.weak_supervision.methods import METHODS, PAPER_METHODS

FILE = "weak_supervision.csv"
REFERENCE = "label_vae"
SETTING = ["device", "size", "batch"]


def benchmark_file(metrics: Path) -> Path:
    """Where the benchmark lies that belongs to a folder of metrics."""
    return metrics.parent / "benchmark" / FILE


def read_benchmark(path: Path) -> pd.DataFrame:
    """Reads the benchmark.

    Args:
        path: CSV with ``side``, ``size`` (pixels), ``batch`` (pairs), ``seconds_per_step`` and ``ratio``, to LabelVAE;
            there may be ``device``.

    Returns:
        Those columns, a line per side, device, image size and batch size.

    Raises:
        ExperimentError: it isn't there, or has no such columns.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run `make reproduce-table3` first")
    table = pd.read_csv(path)
    table = table.assign(device=table["device"].fillna("") if "device" in table else "")
    needed = [*SETTING, "side", "seconds_per_step", "ratio"]
    if absent := [name for name in needed if name not in table]:
        raise ExperimentError(f"{path} has no column {', '.join(absent)}: run `make reproduce-table3` again")
    return table[needed]


def describe_setting(device: str, size: int, batch: int) -> str:
    """Image size, batch size and device in words."""
    return f"{size} x {size} pixels, {batch} pairs a step" + (f", {device}" if device else "")


def table_3(measured: pd.DataFrame, paper: Mapping[str, Any], made: Provenance | None = None) -> list[Table]:
    """A table per device, image size and batch size, and the paper's numbers.

    Args:
        measured: from :func:`read_benchmark`.
        paper: the paper's numbers.
        made: how it was measured, where that is known.
    """
    tables = []
    for (device, size, batch), part in measured.groupby(SETTING):
        rows = []
        for side in (side for side in METHODS if (part["side"] == side).any()):
            line = part[part["side"] == side].iloc[0]
            ratio = NOTHING if pd.isna(line["ratio"]) else f"{line['ratio']:.3f}"
            rows.append([label(side), f"{line['seconds_per_step']:.4f}", ratio])
        title = f"Table 3, measured in one run: {describe_setting(device, size, batch)}"
        header = ["method", "seconds per step", "ratio to LabelVAE"]
        tables.append(Table(title, header, rows, [made] * len(rows) if made else ()))
    columns = list(paper[REFERENCE])
    rows = []
    for method, name in PAPER_METHODS.items():
        cells = [paper_value(paper[method][k], 1) for k in columns]
        rows.append([f"paper: {name}", *cells, f"{paper_ratio(paper, method):.2f}"])
    header = ["method", *(f"k = {k}" for k in columns), "ratio to LabelVAE"]
    title = "Table 3 of the paper: seconds per run, and the ratio of the means over the columns legible for both"
    return [*tables, Table(title, header, rows, [None] * len(rows))]


def paper_ratio(paper: Mapping[str, Any], method: str) -> float:
    """Ratio of a method's mean runtime to LabelVAE's, over the columns in which both can be read."""
    legible = [k for k in paper[REFERENCE] if paper[REFERENCE][k][0] is not None and paper[method][k][0] is not None]
    total, reference = (sum(paper[name][k][0] for k in legible) for name in (method, REFERENCE))
    return float(total / reference)
