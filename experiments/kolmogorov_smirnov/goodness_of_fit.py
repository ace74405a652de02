"""Kolmogorov-Smirnov and chi-square tests from histograms of counts.

On integers a histogram holds the whole sample, so the distances are exact. The p-values of the Kolmogorov-Smirnov test
are those of continuous data: on discrete data they are too large, never too small (the test is conservative). The
chi-square test on pooled counts stands beside it for that reason.

A result holds the largest distance D of the distribution functions (``ks_distance``), its ``ks_p_value``, the smallest
D that is rejected with this many draws (``ks_detectable``), and ``chi_square`` with its ``chi_square_dof`` (bins - 1)
and ``chi_square_p_value`` (NaN where pooling leaves a single bin).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Result = dict[str, float]

MIN_EXPECTED = 5.0  # per pooled bin, the usual rule for the chi-square approximation


def against_law(counts: Integers, probabilities: Floats, significance: float) -> Result:
    """Tests a sample against a known law.

    Args:
        counts: How often each value 0, 1, ... was drawn [values].
        probabilities: The law's probabilities [values].
        significance: Level for ``ks_detectable``.
    """
    draws = counts.sum()
    expected = draws * probabilities
    bins = pool(expected)
    observed, expected = np.bincount(bins, counts), np.bincount(bins, expected)
    expected *= observed.sum() / expected.sum()  # the last ulp: scipy insists on equal totals
    chi_square = stats.chisquare(observed, expected)
    return _result(counts.cumsum() / draws - probabilities.cumsum(), draws, significance) | {
        "chi_square": float(chi_square.statistic),
        "chi_square_dof": len(observed) - 1,
        "chi_square_p_value": float(chi_square.pvalue),
    }


def against_sample(counts: Integers, reference: Integers, significance: float) -> Result:
    """Tests whether two samples come from one law.

    Args:
        counts: How often each value 0, 1, ... was drawn [values].
        reference: The same for the reference sample [values].
        significance: Level for ``ks_detectable``.
    """
    draws, reference_draws = counts.sum(), reference.sum()
    bins = pool((counts + reference) * (min(draws, reference_draws) / (draws + reference_draws)))
    table = np.stack([np.bincount(bins, counts), np.bincount(bins, reference)])
    chi_square = stats.chi2_contingency(table, correction=False)
    effective = float(draws) * float(reference_draws) / float(draws + reference_draws)
    return _result(counts.cumsum() / draws - reference.cumsum() / reference_draws, effective, significance) | {
        "chi_square": float(chi_square.statistic),
        "chi_square_dof": int(chi_square.dof),
        "chi_square_p_value": float(chi_square.pvalue) if chi_square.dof else float("nan"),
    }


def pool(expected: Floats, minimum: float = MIN_EXPECTED) -> Integers:
    """Returns a bin number per value: neighbours are joined until each bin's expected counts reach the minimum."""
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


def _result(differences: Floats, effective_draws: float, significance: float) -> Result:
    """Distance, p-value and smallest rejected distance, as SciPy's kstest and ks_2samp(method="asymp") compute them."""
    distance = float(np.abs(differences).max())
    law = stats.kstwo(np.round(effective_draws))
    p_value = float(np.clip(law.sf(distance), 0.0, 1.0))
    return {"ks_distance": distance, "ks_p_value": p_value, "ks_detectable": float(law.isf(significance))}
