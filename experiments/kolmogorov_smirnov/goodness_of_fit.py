"""Kolmogorov-Smirnov and chi-square tests from histograms of counts.

On integers a histogram holds the whole sample, so the distances are exact. The p-values of the Kolmogorov-Smirnov test
are those of continuous data: on discrete data they are too large, never too small (the test is conservative). The
chi-square test on pooled counts stands beside it for that reason.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MIN_EXPECTED = 5.0  # per pooled bin, the usual rule for the chi-square approximation


class TestResult(NamedTuple):
    """Outcome of both tests for one group of one urn."""

    __test__ = False  # not a test case, whatever its name

    ks_distance: float  # the largest distance of the two distribution functions, D
    ks_p_value: float
    ks_detectable: float  # the smallest D that is rejected at the significance level with this many draws
    chi_square: float  # over the pooled bins
    chi_square_dof: int  # bins - 1
    chi_square_p_value: float  # NaN where pooling leaves a single bin


def pool(expected: Floats, minimum: float = MIN_EXPECTED) -> Integers:
    """Returns a bin number per value: neighbours are joined until each bin expects at least ``minimum``.

    Args:
        expected: Expected counts of the values in order [values].
        minimum: Smallest expected count of a bin.
    """
    bins = np.zeros(len(expected), dtype=np.int64)
    current, mass = 0, 0.0
    for value, count in enumerate(expected):
        if mass >= minimum:
            current, mass = current + 1, 0.0
        bins[value] = current
        mass += count
    if mass < minimum and current > 0:  # what is left over joins the last full bin
        bins[bins == current] = current - 1
    return bins


def _kolmogorov_smirnov(distance: float, effective_draws: float, significance: float) -> tuple[float, float]:
    """p-value and smallest rejected distance, as scipy.stats.ks_2samp(method="asymp") and kstest compute them."""
    law = stats.kstwo(np.round(effective_draws))
    return float(np.clip(law.sf(distance), 0.0, 1.0)), float(law.isf(significance))


def against_law(counts: Integers, probabilities: Floats, significance: float) -> TestResult:
    """Tests a sample against a known law.

    Args:
        counts: How often each value 0, 1, ... was drawn [values].
        probabilities: The law's probabilities [values].
        significance: Level for ``ks_detectable``.
    """
    draws = counts.sum()
    distance = float(np.abs(counts.cumsum() / draws - probabilities.cumsum()).max())
    p_value, detectable = _kolmogorov_smirnov(distance, draws, significance)
    expected = draws * probabilities
    bins = pool(expected)
    observed, expected = np.bincount(bins, counts), np.bincount(bins, expected)
    if len(observed) == 1:
        return TestResult(distance, p_value, detectable, 0.0, 0, float("nan"))
    expected *= observed.sum() / expected.sum()  # the last ulp: scipy insists on equal totals
    result = stats.chisquare(observed, expected)
    dof = len(observed) - 1
    return TestResult(distance, p_value, detectable, float(result.statistic), dof, float(result.pvalue))


def against_sample(counts: Integers, reference: Integers, significance: float) -> TestResult:
    """Tests whether two samples come from one law.

    Args:
        counts: How often each value 0, 1, ... was drawn [values].
        reference: The same for the reference sample [values].
        significance: Level for ``ks_detectable``.
    """
    draws, reference_draws = counts.sum(), reference.sum()
    distance = float(np.abs(counts.cumsum() / draws - reference.cumsum() / reference_draws).max())
    effective = float(draws) * float(reference_draws) / float(draws + reference_draws)
    p_value, detectable = _kolmogorov_smirnov(distance, effective, significance)
    both = counts + reference
    bins = pool(both * (min(draws, reference_draws) / (draws + reference_draws)))
    table = np.stack([np.bincount(bins, counts), np.bincount(bins, reference)])
    if table.shape[1] == 1:
        return TestResult(distance, p_value, detectable, 0.0, 0, float("nan"))
    result = stats.chi2_contingency(table, correction=False)
    return TestResult(distance, p_value, detectable, float(result.statistic), int(result.dof), float(result.pvalue))
