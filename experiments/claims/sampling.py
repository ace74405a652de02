"""Measures the claims about draws: Kolmogorov-Smirnov tests (Section 5.1, Appendix C.1), the urn (4.1, B.5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims.rules import Measurement, measure
from experiments.kolmogorov_smirnov.tables import most_rejected, read_tests
from experiments.results import Block, blocks, read_metrics

FIGURES = {"weights": "Section 5.1, Figure 1", "draws": "Appendix C.1, Figure 9", "sizes": "Appendix C.1, Figure 10"}
TRUTH = "expected_squared_loss_truth"
# Rule of the urn -> estimator, column, and the column that it is divided by.
URN: dict[str, tuple[str, str, str | None]] = {
    "urn_weights": ("merged", "rmse", None),
    "urn_loss": ("merged", "model_squared_loss", TRUTH),
    # Section 4.1 says that other weights make up for the merging; they are then not those of the law.
    "urn_importance": ("merged", "expected_squared_loss", TRUTH),
    "urn_weights_exact": ("exact", "rmse", None),
    "urn_loss_exact": ("exact", "model_squared_loss", TRUTH),
    "urn_likelihood": ("maximum_likelihood", "rmse_standard_errors", None),
}


def kolmogorov_smirnov(metrics: Path) -> list[Measurement]:
    """Section 5.1 and Appendix C.1: the largest profile, its lowest seed."""
    tests = read_tests(metrics)
    measured = []
    for sampler in ("straight_through", "sample"):
        merged = tests[(tests["conditionals"] == "merged") & (tests["sampler"] == sampler)]
        for series, place in FIGURES.items():
            part = merged[(merged["series"] == series) & (merged["reference"] == "merged")]
            name = f"{place.split(', ')[1]}, {sampler}"
            measured.append(rejections("ks_reference", part, {"where": place, "sampler": sampler}, name))
        measured.append(rejections("ks_law", merged[merged["reference"] == "exact"], {"sampler": sampler}, sampler))
    truth = tests[(tests["conditionals"] == "exact") & (tests["reference"] == "exact")]
    for (sampler, draws), part in truth.groupby(["sampler", "draws"]):
        fills = {"sampler": sampler, "draws": draws}
        measured.append(rejections("ks_exact", part, fills, f"{sampler}, {draws:,} draws"))
    return [*measured, family_wise(truth)]


def rejections(rule: str, part: pd.DataFrame, fills: Mapping[str, Any], name: str) -> Measurement:
    """Counts the rejections among some tests.

    Args:
        rule: Key of the rule.
        part: Lines of the metrics, one per test.
        fills: For the claim's text.
        name: What tells this claim apart from the rule's others.
    """
    rejected, urns = int(part["rejected"].sum()), part.groupby(["series", "value"])["rejected"].any()
    text = (
        f"{rejected} of {len(part)} rejected, in {urns.sum()} of {len(urns)} urns, largest D "
        f"{part['ks_distance'].max():.4f} (detectable {part['ks_detectable'].max():.4f}), "
        f"{part['draws'].max():,.0f} draws"
    )
    more: dict[str, Any] = {"fills": fills, "part": name, "short": f"{rejected} of {len(part)}"}
    more["difference"] = str(rejected) if rule == "ks_reference" else "-"
    return measure(rule, *_origin(part), text, [(urns.sum(), most_rejected(len(urns)))], **more)


def family_wise(truth: pd.DataFrame) -> Measurement:
    """The smallest p of all tests of the exact sampler, chi-square tests included."""
    p_values = pd.concat([truth["ks_p_value"], truth["chi_square_p_value"]]).dropna()
    smallest = float(p_values.min())
    text = f"smallest p {smallest:.1e} of {len(p_values)} tests, times their number {smallest * len(p_values):.2g}"
    values = [(smallest * len(p_values), 1.0)]
    return measure("ks_family", *_origin(truth), text, values, short=f"p {smallest:.1e}")


def _origin(part: pd.DataFrame) -> tuple[Block | None, pd.DataFrame, str]:
    files = [f"{experiment}_metrics.csv" for experiment in part["experiment"].unique()]
    block = None if part.empty else Block(part["profile"].iloc[0], "", part)
    return block, part, ", ".join(files)


def urn(metrics: Path) -> list[Measurement]:
    """Appendix B.5.1: the largest profile, all its seeds; the worst data set decides."""
    block = next(blocks(read_metrics(metrics, "urn_metrics")))
    measured = []
    for rule, (estimator, column, over) in URN.items():
        part = block.lines[block.lines["estimator"] == estimator]
        worst = float((part[column] / part[over] if over else part[column]).max(skipna=False))
        sets = f"the worst of {part['second_weight'].nunique()} data sets"
        text = f"{worst:.3f}, {sets}"
        if rule == "urn_likelihood":
            text = f"{worst:.2f} standard errors, {sets} (error at most {part['rmse'].max():.3f})"
        measured.append(measure(rule, block, part, "urn_metrics.csv", text, [(worst, 1.0)], short=f"{worst:.3g}"))
    return measured
