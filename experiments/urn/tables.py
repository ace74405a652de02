"""How well every estimator recovers the log weights of the urn, from the collected metrics."""

from __future__ import annotations

import pandas as pd

from experiments.common.provenance import provenance_of
from experiments.common.tables import Table

MAXIMUM_LIKELIHOOD = "urn/maximum_likelihood"
ESTIMATORS = {
    "urn/merged": "squared loss by SGD, merged conditionals (paper)",
    "urn/exact": "squared loss by SGD, exact conditionals (ours)",
    MAXIMUM_LIKELIHOOD: "exact maximum likelihood",
    "urn/squared_loss_optimum": "exact minimum of the squared loss",
}


def recovery_table(metrics: pd.DataFrame) -> Table:
    """The error of every estimator on every data set, mean over the seeds.

    Args:
        metrics: Lines of ``urn_metrics.csv`` of one profile.
    """
    known = metrics[metrics["row"].isin(list(ESTIMATORS))]
    rows = [row for row in ESTIMATORS if (known["row"] == row).any()]
    means = known.groupby(["second_weight", "row"])[["rmse", "rmse_standard_errors"]].mean()
    title = (
        "Root mean square error of the recovered log weights (scale removed), in brackets in units of the standard "
        f"errors of the maximum-likelihood fit; profile {', '.join(sorted(metrics['profile'].unique()))}, "
        f"mean over {metrics['seed'].nunique()} seed(s)."
    )
    header = ["true weight of group 2", *(ESTIMATORS[row] for row in rows)]
    lines, provenance = [], []
    for weight, part in known.groupby("second_weight"):
        values = [means.loc[(weight, row)] for row in rows]
        cells = [f"{value['rmse']:.4f} ({value['rmse_standard_errors']:.2f})" for value in values]
        lines.append([f"{weight:g}", *cells])
        provenance.append(provenance_of(part, "urn_metrics.csv"))
    return Table(title, header, lines, provenance)


def recovery_markdown(metrics: pd.DataFrame) -> str:
    """Returns :func:`recovery_table` of the same metrics as Markdown, numbers aligned right."""
    table = recovery_table(metrics)
    lines = [table.title, "", f"| {' | '.join(table.header)} |", "|" + "---:|" * len(table.header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table.rows)]) + "\n"
