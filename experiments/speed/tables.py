"""The tables of the benchmarks and how they were measured, from the committed files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.results import UNKNOWN, Provenance
from experiments.settings import ExperimentError
from experiments.tables import NOTHING, Table

PRECISE_FROM = 100.0  # values from here on are written without decimals
HEADINGS = {"other_side": "beside", "other": "theirs", "target": "to reach"}


def benchmark_provenance(path: Path, data: str = "drawn", seconds: str = UNKNOWN) -> Provenance:
    """Returns where the numbers of a benchmark come from.

    Args:
        path: JSON of the benchmark, with ``environment``.
        data: What it was measured on.
        seconds: What it says of times, in words.

    Raises:
        ExperimentError: it isn't there or can't be read.
    """
    try:
        facts = json.loads(path.read_text())["environment"]
        commit = f"{facts['commit']:.10}{' with changes' if facts['dirty'] else ''}"
        return Provenance(
            profile="benchmark",
            data=data,
            seeds=(),
            device=f"{facts['device']}, {facts['cores']} cores, {facts['threads']} thread(s)",
            seconds=seconds,
            commits=(commit,),
            torch=facts["packages"]["torch"],
            runs=(),
            source=f"{path.parent.name}/{path.name}",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{path} can't be read as a benchmark ({type(error).__name__}): run it again") from None


def committed_table(folder: Path, name: str, title: str) -> Table:
    """A benchmark as it stands, with its columns.

    Raises:
        ExperimentError: a file isn't there or can't be read.
    """
    made = benchmark_provenance(folder / f"{name}.json")
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run the benchmark first")
    try:
        lines = pd.read_csv(path).dropna(axis="columns", how="all")
    except ValueError as error:
        raise ExperimentError(f"{path} can't be read ({error}): run the benchmark again") from None
    table = benchmark_table(title, lines)
    return Table(table.title, table.header, table.rows, [made] * len(lines))


def benchmark_table(title: str, lines: pd.DataFrame) -> Table:
    """Columns of numbers with three digits, and of text; the first names the line."""
    header = [HEADINGS.get(name) or name.replace("_", " ") for name in lines]
    rows = [[as_text(value) for value in line] for line in lines.itertuples(index=False)]
    return Table(title, header, rows, text=True)


def as_text(value: Any) -> str:
    """Writes a value of a table: numbers with three digits, large ones whole."""
    if isinstance(value, str | bool):
        return str(value)
    if pd.isna(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= PRECISE_FROM else f"{value:.3g}"
