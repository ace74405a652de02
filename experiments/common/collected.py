"""Reading the collected metrics: what the tables and figures of every room share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from experiments.common.errors import ExperimentError

Value = TypeVar("Value", str, int)


def read_collected(path: Path, dtype: Any = None) -> pd.DataFrame:
    """Reads a CSV of the aggregator.

    Args:
        path: the file.
        dtype: of columns that pandas would take for something else.

    Raises:
        ExperimentError: it isn't there.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist: run the experiment and scripts/aggregate.py first")
    return pd.read_csv(path, dtype=dtype)


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
