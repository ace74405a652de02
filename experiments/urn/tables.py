"""How well every estimator recovers the log weights of the urn, from the collected metrics."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.results import describe_seeds, ordered, provenance_of, read_largest
from experiments.settings import ExperimentError
from experiments.tables import Table

ESTIMATORS = {
    "merged": "squared loss by SGD, merged conditionals (paper)",
    "exact": "squared loss by SGD, exact conditionals (ours)",
    "maximum_likelihood": "exact maximum likelihood",
    "squared_loss_optimum": "exact minimum of the squared loss",
}


def tables(metrics: Path) -> dict[str, str]:
    """Returns the content of the room's files of tables, by name.

    Raises:
        ExperimentError: there are no metrics.
    """
    return {"urn_recovery.md": recovery_table(read_largest(metrics, "urn_metrics")).markdown()}


def shown(metrics: pd.DataFrame) -> list[str]:
    """Returns the estimators that have runs, the known ones first."""
    return ordered(metrics["estimator"], ESTIMATORS)


def lines_of(table: pd.DataFrame, estimator: str) -> pd.DataFrame:
    """Returns the lines of an estimator.

    Raises:
        ExperimentError: there are none.
    """
    part = table[table["estimator"] == estimator]
    if part.empty:
        raise ExperimentError(f"no run of estimator={estimator}")
    return part


def recovery_table(metrics: pd.DataFrame) -> Table:
    """The error of every estimator on every data set, mean over the seeds.

    Args:
        metrics: Lines of ``urn_metrics.csv`` of one profile.
    """
    names = shown(metrics)
    means = metrics.groupby(["second_weight", "estimator"])[["rmse", "rmse_standard_errors"]].mean()
    title = (
        "Root mean square error of the recovered log weights (scale removed), in brackets in units of the standard "
        f"errors of the maximum-likelihood fit; profile {', '.join(sorted(metrics['profile'].unique()))}, "
        f"mean over {describe_seeds(metrics, 'estimator', ESTIMATORS)}."
    )
    header = ["true weight of group 2", *(ESTIMATORS.get(name, name) for name in names)]
    lines, provenance = [], []
    for weight, part in metrics.groupby("second_weight"):
        values = [means.loc[(weight, name)] for name in names]
        cells = [f"{value['rmse']:.4f} ({value['rmse_standard_errors']:.2f})" for value in values]
        lines.append([f"{weight:g}", *cells])
        provenance.append(provenance_of(part, "urn_metrics.csv"))
    return Table(title, header, lines, provenance)
