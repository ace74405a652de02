"""Measures the claims about the urn (Section 4.1, Appendix B.5.1): the worst data set decides."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.common.figures import read_table
from experiments.verdicts.rules import Measurement

FILE = "urn_metrics"


def urn(metrics: Path) -> list[Measurement]:
    """Appendix B.5.1: the largest profile, all its seeds."""
    table = read_table(metrics, FILE, every_seed=True)
    merged, exact, likelihood = (
        table[table["row"] == f"urn/{row}"] for row in ("merged", "exact", "maximum_likelihood")
    )
    return [
        _worst("urn_weights", merged, "rmse"),
        _worst("urn_loss", merged, "model_squared_loss", "expected_squared_loss_truth"),
        # Section 4.1 says that other weights make up for the merging; they are then not those of the law.
        _worst("urn_importance", merged, "expected_squared_loss", "expected_squared_loss_truth"),
        _worst("urn_weights_exact", exact, "rmse"),
        _worst("urn_loss_exact", exact, "model_squared_loss", "expected_squared_loss_truth"),
        _worst("urn_likelihood", likelihood, "rmse_standard_errors"),
    ]


def _worst(rule: str, part: pd.DataFrame, column: str, over: str | None = None) -> Measurement:
    """The largest value of a column, or of its ratio to another."""
    if part.empty:
        return Measurement(rule, "no run", missing="no run")
    worst = float((part[column] / part[over] if over else part[column]).max())
    sets = part["second_weight"].nunique()
    text = f"{worst:.3f}, the worst of {sets} data sets"
    if rule == "urn_likelihood":
        text = f"{worst:.2f} standard errors, the worst of {sets} data sets (error at most {part['rmse'].max():.3f})"
    profile = part["profile"].iloc[0]
    return Measurement(rule, text, [(worst, 1.0)], part, f"{FILE}.csv", profile, short=f"{worst:.3g}")
