"""The urn (Appendix B.5.1)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.common.figures import read_table
from experiments.verdicts.verdict import CLOSE, NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, Verdict, describe_source

LOG_WEIGHT_ERROR = (0.1, 0.3)  # root mean square, at most: reproduced, close
LOSS_EXCESS = (1.05, 1.25)  # expected loss over that of the true weights, at most: reproduced, close
STANDARD_ERRORS = 3.0  # root mean square error of a maximum-likelihood fit in its own standard errors, at most


def _graded(value: float, limits: tuple[float, float]) -> str:
    return REPRODUCED if value <= limits[0] else CLOSE if value <= limits[1] else NOT_REPRODUCED


def urn(metrics: Path) -> list[Verdict]:
    """Appendix B.5.1: the worst data set decides."""
    table = read_table(metrics, "urn_metrics", every_seed=True)
    verdicts = []
    for row, who in {"urn/merged": "B.5.1, Figure", "urn/exact": "ours, exact conditionals, Figure"}.items():
        part = table[table["row"] == row]
        weights_claim = f"{who} 8: gradient descent recovers the log weights"
        weights_rule = f"worst RMSE at most {LOG_WEIGHT_ERROR[0]}: reproduced, {LOG_WEIGHT_ERROR[1]}: close"
        loss_claim = f"{who} 7: the loss stays low"
        loss_rule = f"loss over the true weights' at most {LOSS_EXCESS[0]}: reproduced, {LOSS_EXCESS[1]}: close"
        if part.empty:
            verdicts += [Verdict(weights_claim, weights_rule, "no run", NOT_COMPARABLE)]
            verdicts += [Verdict(loss_claim, loss_rule, "no run", NOT_COMPARABLE)]
            continue
        error = part["rmse"].max()
        # Of the law that the row itself draws from, as the paper's loss is.
        excess = (part["model_squared_loss"] / part["expected_squared_loss_truth"]).max()
        source = f"of {len(part)} data sets, {describe_source(part)}"
        verdicts.append(Verdict(weights_claim, weights_rule, f"{error:.3f} {source}", _graded(error, LOG_WEIGHT_ERROR)))
        verdicts.append(Verdict(loss_claim, loss_rule, f"{excess:.3f} {source}", _graded(excess, LOSS_EXCESS)))
        if row == "urn/merged":
            verdicts.append(_merged_weights_in_the_law(part, source))
    part = table[table["row"] == "urn/maximum_likelihood"]
    claim = "ours: maximum likelihood recovers the log weights"
    rule = f"worst RMSE at most {STANDARD_ERRORS:g} standard errors"
    if part.empty:
        verdicts.append(Verdict(claim, rule, "no run", NOT_COMPARABLE))
    else:
        error = part["rmse_standard_errors"].max()
        rmse = f"RMSE {part['rmse'].max():.3f}"
        measured = f"{error:.2f} standard errors ({rmse}) of {len(part)} data sets, {describe_source(part)}"
        verdicts.append(Verdict(claim, rule, measured, REPRODUCED if error <= STANDARD_ERRORS else NOT_REPRODUCED))
    return verdicts


def _merged_weights_in_the_law(part: pd.DataFrame, source: str) -> Verdict:
    """Section 4.1 says that other weights make up for the merging; they are then not those of the law."""
    excess = (part["expected_squared_loss"] / part["expected_squared_loss_truth"]).max()
    return Verdict(
        "4.1: weights learned through merged conditionals are the true class importance",
        f"loss in the exact law over the true weights' at most {LOSS_EXCESS[0]}: reproduced, {LOSS_EXCESS[1]}: close",
        f"{excess:.3f} {source}",
        _graded(excess, LOSS_EXCESS),
    )
