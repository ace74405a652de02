"""Alternatives held against each other seed by seed, since the spread between seeds hides what is between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from scipy.stats import t as student_t

from experiments.claims.rules import too_few


@dataclass(frozen=True)
class Comparison:
    """A number of several alternatives on the seeds that all of them have.

    Attributes:
        values: A line per seed, a column per alternative; the first is the one that is judged.
        lines: The lines of the metrics that they are from.
        absent: Alternatives without a run.
    """

    values: pd.DataFrame
    lines: pd.DataFrame
    absent: tuple[str, ...]

    @property
    def means(self) -> pd.Series:
        """Mean over the seeds of each alternative."""
        return self.values.mean()

    @property
    def differences(self) -> dict[str, tuple[float, float]]:
        """Mean paired difference of the first to each other one, with its standard error (NaN of one seed)."""
        first, *others = self.values.columns
        pairs = {other: self.values[first] - self.values[other] for other in others}
        return {other: (float(pair.mean()), float(pair.sem())) for other, pair in pairs.items()}

    @property
    def judged(self) -> list[tuple[float, float]]:
        """The same differences in the unit of the rules' limits, see ``widened``."""
        return [(mean, widened(error, len(self.values))) for mean, error in self.differences.values()]

    def missing(self, rule: str) -> str:
        """Returns why a rule can't judge it; empty if it can."""
        if self.absent:
            return f"no run of {', '.join(self.absent)}"
        return too_few(rule, len(self.values), "no seed is common to all")


def widened(error: float, seeds: int) -> float:
    """A mean's standard error, made so large that two of it are the half width of the 95 % interval by Student's t."""
    return error if math.isnan(error) else error * float(student_t.ppf(0.975, seeds - 1)) / 2


def compare(alternatives: Mapping[str, pd.DataFrame], column: str) -> Comparison:
    """Returns a comparison.

    Args:
        alternatives: Name in words -> lines of its runs, one per seed.
        column: Of the number; lines without one don't count.
    """
    runs = {name: part.dropna(subset=[column]) for name, part in alternatives.items()}
    columns = {name: part.set_index("seed")[column].sort_index() for name, part in runs.items()}
    values = pd.concat(columns, axis=1, join="inner")
    lines = pd.concat(list(runs.values()))
    absent = tuple(name for name, part in runs.items() if part.empty)
    return Comparison(values, lines[lines["seed"].isin(values.index)], absent)
