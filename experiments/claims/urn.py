"""Measures the claims about the urn (Section 4.1, Appendix B.5.1): the worst data set decides."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.rules import Measurement
from experiments.results import Block, blocks, read_metrics

FILE = "urn_metrics"
TRUTH = "expected_squared_loss_truth"


def urn(metrics: Path) -> list[Measurement]:
    """Appendix B.5.1: the largest profile, all its seeds."""
    block = next(blocks(read_metrics(metrics, FILE)))
    return [
        _worst(block, "urn_weights", "merged", "rmse"),
        _worst(block, "urn_loss", "merged", "model_squared_loss", TRUTH),
        # Section 4.1 says that other weights make up for the merging; they are then not those of the law.
        _worst(block, "urn_importance", "merged", "expected_squared_loss", TRUTH),
        _worst(block, "urn_weights_exact", "exact", "rmse"),
        _worst(block, "urn_loss_exact", "exact", "model_squared_loss", TRUTH),
        _worst(block, "urn_likelihood", "maximum_likelihood", "rmse_standard_errors"),
    ]


def _worst(block: Block, rule: str, estimator: str, column: str, over: str | None = None) -> Measurement:
    """The largest value of a column, or of its ratio to another."""
    part = block.lines[block.lines["estimator"] == estimator]
    if part.empty:
        return Measurement(rule, missing="no run")
    worst = float((part[column] / part[over] if over else part[column]).max())
    sets = part["second_weight"].nunique()
    text = f"{worst:.3f}, the worst of {sets} data sets"
    if rule == "urn_likelihood":
        text = f"{worst:.2f} standard errors, the worst of {sets} data sets (error at most {part['rmse'].max():.3f})"
    return Measurement(rule, text, [(worst, 1.0)], block, part, f"{FILE}.csv", short=f"{worst:.3g}")
