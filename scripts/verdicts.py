"""Holds each claim against the collected metrics, by rules that stand in this file and were fixed before the numbers.

Verdicts: reproduced, close, not reproduced, not comparable (the numbers it needs are not there). Prints a table and
writes it to <output>/verdicts.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the experiments are run from the checkout

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from experiments.common.errors import ExperimentError
from experiments.common.figures import read_table
from experiments.common.store import write_atomically

SIGNIFICANCE = 0.05  # the paper's threshold, after Benjamini-Hochberg over the groups of an urn
CHANCE_QUANTILE = 0.999  # of the number of rejections when every hypothesis is true
FAMILY_WISE = 0.01  # over all tests of the exact sampler, divided by their number (Bonferroni)
LOG_WEIGHT_ERROR = (0.1, 0.3)  # root mean square, at most: reproduced, close
LOSS_EXCESS = (1.05, 1.25)  # expected loss over that of the true weights, at most: reproduced, close
STANDARD_ERRORS = 3.0  # root mean square error of a maximum-likelihood fit in its own standard errors, at most

REPRODUCED, CLOSE, NOT_REPRODUCED, NOT_COMPARABLE = "reproduced", "close", "not reproduced", "not comparable"


@dataclass(frozen=True)
class Verdict:
    """One claim, what was measured and what follows."""

    claim: str
    rule: str
    measured: str
    verdict: str


def chance(tests: int) -> int:
    """The 99.9 % quantile of the number of rejections if each of the tests rejects with probability 0.05."""
    return int(binom.ppf(CHANCE_QUANTILE, tests, SIGNIFICANCE))


def _source(part: pd.DataFrame) -> str:
    first, seeds = part.iloc[0], ",".join(str(seed) for seed in sorted(part["seed"].unique()))
    return f"profile {first['profile']}, seed {seeds}"


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
        f"(detectable {part['ks_detectable'].max():.4f}), {int(part['draws'].iloc[0]):,} draws, {_source(part)}"
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
        source = f"of {len(part)} data sets, {_source(part)}"
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
        measured = f"{error:.2f} standard errors ({rmse}) of {len(part)} data sets, {_source(part)}"
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


ROOMS: dict[str, Callable[[Path], list[Verdict]]] = {"kolmogorov_smirnov": kolmogorov_smirnov, "urn": urn}


def to_markdown(verdicts: list[Verdict]) -> str:
    """Returns the verdicts as a table."""
    lines = ["# Verdicts", "", "The rules stand in `scripts/verdicts.py`.", ""]
    lines += ["| claim | rule | measured | verdict |", "|---|---|---|---|"]
    lines += [f"| {one.claim} | {one.rule} | {one.measured} | {one.verdict} |" for one in verdicts]
    return "\n".join(lines) + "\n"


def show(verdicts: list[Verdict]) -> None:
    """Prints the verdicts."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("claim", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for one in verdicts:
        table.add_row(one.claim, one.measured, one.verdict)
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, default=Path("results/metrics"), help="folder of CSVs (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/local/tables"), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    verdicts: list[Verdict] = []
    try:
        for room, judge in ROOMS.items():
            if (options.metrics / f"{room}_metrics.csv").is_file():
                verdicts += judge(options.metrics)
        if not verdicts:
            raise ExperimentError(f"{options.metrics} holds no metrics of {', '.join(ROOMS)}")
        options.output.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output / "verdicts.md", to_markdown(verdicts))
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or options.output}: {error.strerror}")
    show(verdicts)


if __name__ == "__main__":
    main()
