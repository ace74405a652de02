"""Reading the collected metrics: what the tables and figures of every room share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from experiments.common.errors import ExperimentError

ORIGIN = ("row", "profile", "seed", "run_id")  # of every line of every table

_TEXT: dict[str, Any] = {"run_id": str, "commit": str, "torch": str}  # may look like numbers

Value = TypeVar("Value", str, int)


def read_collected(path: Path, dtype: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Reads a CSV of the aggregator.

    Args:
        path: the file.
        dtype: of further columns that pandas would take for something else.

    Raises:
        ExperimentError: it isn't there, or no such table.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run the experiment and scripts/aggregate.py first")
    try:
        table = pd.read_csv(path, dtype=_TEXT | dict(dtype or {}))
    except ValueError as error:  # of pandas' parser and of the decoder
        raise ExperimentError(f"{path} can't be read ({error}): run scripts/aggregate.py again") from None
    if absent := [name for name in ORIGIN if name not in table]:
        raise ExperimentError(f"{path} has no column {', '.join(absent)}: run scripts/aggregate.py again")
    return table


def lines_of_row(table: pd.DataFrame, row: str) -> pd.DataFrame:
    """Returns the lines of one row of results.

    Raises:
        ExperimentError: there are none.
    """
    part = table[table["row"] == row]
    if part.empty:
        raise ExperimentError(f"the metrics hold no run of {row}")
    return part


def ordered(values: Iterable[Value], known: Iterable[Value]) -> list[Value]:
    """Known names in their order, then others: a row of somebody's own is not lost."""
    first = list(known)
    return sorted(set(values), key=lambda value: (first.index(value) if value in first else len(first), value))


def describe_seeds(table: pd.DataFrame) -> str:
    """Names the seeds of some lines, for example "seeds 0, 1, 2"."""
    seeds = [str(seed) for seed in sorted(table["seed"].unique())]
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def describe_commits(runs: pd.DataFrame) -> str:
    """Names the commits that made some runs."""
    return ", ".join(sorted({f"{run.commit:.10}{' with changes' if run.dirty else ''}" for run in runs.itertuples()}))


def describe_seconds(runs: pd.DataFrame) -> str:
    """Says how long a run took: the median over those that were not interrupted."""
    times = runs["seconds"].dropna()
    if times.empty:
        return "not known"
    return f"median {times.median():.0f} s over the {len(times)} of {len(runs)} runs without interruption"
