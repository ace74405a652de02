"""Kolmogorov-Smirnov tests (Section 5.1, Appendix C.1)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from scipy.stats import binom

from experiments.common.figures import read_table
from experiments.verdicts.verdict import CLOSE, NOT_COMPARABLE, NOT_REPRODUCED, REPRODUCED, Verdict, describe_source

SIGNIFICANCE = 0.05  # the paper's threshold, after Benjamini-Hochberg over the groups of an urn
CHANCE_QUANTILE = 0.999  # of the number of rejections when every hypothesis is true
FAMILY_WISE = 0.01  # over all tests of the exact sampler, divided by their number (Bonferroni)


def chance(tests: int) -> int:
    """The 99.9 % quantile of the number of rejections if each of the tests rejects with probability 0.05."""
    return int(binom.ppf(CHANCE_QUANTILE, tests, SIGNIFICANCE))


def _rejections(part: pd.DataFrame, claim: str, none_expected: bool) -> Verdict:
    """Judges a number of rejections; ``none_expected``: the paper says zero, otherwise chance decides alone."""
    limit = chance(len(part)) if len(part) else 0
    rule = f"at most {limit}, the 99.9 % quantile of chance" + (": close; 0: reproduced" if none_expected else "")
    if part.empty:
        return Verdict(claim, rule, "no run", NOT_COMPARABLE)
    rejected = int(part["rejected"].sum())
    verdict = REPRODUCED if rejected == 0 or (not none_expected and rejected <= limit) else NOT_REPRODUCED
    if none_expected and 0 < rejected <= limit:
        verdict = CLOSE
    measured = (
        f"{rejected} of {len(part)} rejected, largest D {part['ks_distance'].max():.4f} "
        f"(detectable {part['ks_detectable'].max():.4f}), {int(part['draws'].iloc[0]):,} draws, {describe_source(part)}"
    )
    return Verdict(claim, rule, measured, verdict)


def kolmogorov_smirnov(metrics: Path) -> list[Verdict]:
    """Section 5.1 and Appendix C.1."""
    table = read_table(metrics, "kolmogorov_smirnov_metrics")
    series_rows = ~table["row"].str.contains("/accuracy_")
    verdicts = []
    figures = {"weights": "5.1, Figure 1", "draws": "C.1, Figure 9", "sizes": "C.1, Figure 10"}
    for sampler in ("straight_through", "sample"):
        merged = table[series_rows & (table["conditionals"] == "merged") & (table["sampler"] == sampler)]
        for series, place in figures.items():
            part = merged[merged["series"] == series]
            claim = f"{place}: no difference to the merged SciPy reference in 30 of 30 tests ({sampler})"
            verdicts.append(_rejections(part[part["reference"] == "merged"], claim, none_expected=True))
        claim = f"5.1: merged samples follow the noncentral hypergeometric law ({sampler})"
        verdicts.append(_rejections(merged[merged["reference"] == "exact"], claim, none_expected=False))
    truth = table[(table["conditionals"] == "exact") & (table["reference"] == "exact")]
    for (sampler, draws), part in truth.groupby(["sampler", "draws"]):
        claim = f"ours: exact conditionals follow the law ({sampler}, {draws:,} draws)"
        verdicts.append(_rejections(part, claim, none_expected=False))
    verdicts.append(_family_wise(truth))
    return verdicts


def _family_wise(truth: pd.DataFrame) -> Verdict:
    """No test of the exact sampler rejects at the Bonferroni level, chi-square tests included."""
    claim = "ours: no test of the exact sampler against the law rejects, KS and chi-square, all rows together"
    p_values = pd.concat([truth["ks_p_value"], truth["chi_square_p_value"]]).dropna()
    if p_values.empty:
        return Verdict(claim, f"family-wise level {FAMILY_WISE}", "no run", NOT_COMPARABLE)
    level = FAMILY_WISE / len(p_values)
    rule = f"p >= {FAMILY_WISE} / {len(p_values)} = {level:.1e} (Bonferroni)"
    measured = f"{int((p_values < level).sum())} of {len(p_values)} rejected, smallest p {p_values.min():.1e}"
    return Verdict(claim, rule, measured, REPRODUCED if p_values.min() >= level else NOT_REPRODUCED)
