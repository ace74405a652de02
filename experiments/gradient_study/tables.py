"""The tables of the gradient study, from its CSV alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from experiments.gradient_study.figures import ESTIMATORS, FILE, read
from experiments.results import Provenance, provenance_of
from experiments.tables import Table

TEMPERATURE = 0.5
EXPLANATION = """\
Error of the mean gradient and its standard error, over max(norm of the exact gradient, floor); in brackets the standard
deviation of one sample's gradient over the same. The exact gradient is by enumeration under the true law; the floor is
sd(f) sqrt(sum_i Var x_i) / 10, a tenth of the bound that the Cauchy-Schwarz inequality puts on the gradient. The score
function is (f(x) - mean of f over the other draws) (x - E[x]): unbiased, so its error is noise; so is that of the
second order (`MultivariateHypergeometricSecondOrder`) where f is linear or quadratic. "From draws" is the number of
draws averaged over from which the score function's root-mean-square error is below that of the straight-through
gradient with exact conditionals ("-": no bias was found)."""


def tables(metrics: Path) -> dict[str, str]:
    """Returns the content of the file of tables, by its name.

    Raises:
        ExperimentError: there is no such study.
    """
    study = read(metrics)
    heading = f"# Gradients of E[f(x)] with respect to log omega\n\n{EXPLANATION}\n"
    return {"gradient_study.md": "\n".join([heading, case_table(study).markdown(), worst_table(study).markdown()])}


def case_table(study: pd.DataFrame) -> Table:
    """Every case at the temperature that is judged."""
    at = study[(study["temperature"] == TEMPERATURE) | study["temperature"].isna()]
    estimators = _estimators(at)
    header = ["urn", "weights", "f", *(ESTIMATORS[name] for name in estimators)]
    header += ["from draws", "to reach (exact)", "reached"]
    lines = []
    for key, part in at.groupby(["urn", "weights", "function"], sort=False):
        rows = {row["estimator"]: row for _, row in part.iterrows()}
        judged = rows["exact"]
        draws = draws_to_beat(judged, rows["score function"])
        cells = [*key, *(_cell(rows[name]) for name in estimators), "-" if draws is None else f"{draws:,}"]
        cells += [f"{100 * judged['target']:.0f} %", judged["reached"]] if pd.notna(judged["target"]) else ["", ""]
        lines.append(cells)
    title = (
        f"Temperature {TEMPERATURE:g}; f linear is x_1 - 2 x_2 + x_3 / 2, f quadratic |x - e|^2, f quartic the sum "
        "over the groups of (x_i - e_i)^4."
    )
    return Table(title, header, lines, [_made(study)] * len(lines))


def draws_to_beat(straight_through: pd.Series, score_function: pd.Series) -> int | None:
    """Number of averaged draws from which an unbiased estimator has the smaller root-mean-square error.

    The squared errors are bias^2 + variance / draws; the noise of the measurement is taken off the bias. None where no
    bias stands out.
    """
    squared_bias = straight_through["error"] ** 2 - straight_through["standard_error"] ** 2
    if straight_through["error"] < 2 * straight_through["standard_error"]:
        return None
    extra_variance = score_function["standard_deviation"] ** 2 - straight_through["standard_deviation"] ** 2
    return max(1, math.ceil(extra_variance / squared_bias))


def worst_table(study: pd.DataFrame) -> Table:
    """The worst case at each temperature."""
    tempered = study.dropna(subset="temperature")
    temperatures = sorted(tempered["temperature"].unique())
    largest = tempered.groupby(["urn", "estimator", "temperature"])[["error", "standard_deviation"]].max()
    lines = []
    for urn, name in product(tempered["urn"].unique(), _estimators(tempered)):
        rows = [largest.loc[(urn, name, temperature)] for temperature in temperatures]
        cells = [f"{100 * row['error']:.1f} % ({row['standard_deviation']:.1f})" for row in rows]
        lines.append([urn, ESTIMATORS[name], *cells])
    title = "Worst over weights and functions at each temperature, error (standard deviation):"
    header = ["urn", "estimator", *(f"{value:g}" for value in temperatures)]
    return Table(title, header, lines, [_made(study)] * len(lines))


def _cell(row: pd.Series) -> str:
    return f"{100 * row['error']:.1f} ± {100 * row['standard_error']:.1f} % ({row['standard_deviation']:.1f})"


def _estimators(study: pd.DataFrame) -> list[str]:
    return [name for name in ESTIMATORS if name in set(study["estimator"])]


def _made(study: pd.DataFrame) -> Provenance:
    """The study is one run of its own, without an id and without a time."""
    return replace(provenance_of(study.assign(changes="", run_id="", seconds=math.nan), FILE), runs=())
