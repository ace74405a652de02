"""The number that a sweep optimizes."""

from __future__ import annotations

from experiments.common.errors import ExperimentError
from experiments.common.store import RunDirectory


def objective(run: RunDirectory, column: str | None) -> float | None:
    """Returns the mean of a column of a finished run's table; None where none is asked for.

    Args:
        run: A finished run.
        column: ``TABLE.COLUMN``, or a column of the table called metrics. Empty cells don't count.

    Raises:
        ExperimentError: there is no such column, or it holds no number.
    """
    if column is None:
        return None
    table, _, name = str(column).rpartition(".")
    table = table or "metrics"
    if not (run.path / f"{table}.csv").is_file():
        raise ExperimentError(f"objective={column}: {run.row} has no table {table}")
    values = run.table(table)
    numeric = list(values.select_dtypes("number").columns)
    if name not in numeric or values[name].isna().all():
        raise ExperimentError(f"objective={column}: no column of numbers in {run.row}; there are {', '.join(numeric)}")
    return float(values[name].mean())
