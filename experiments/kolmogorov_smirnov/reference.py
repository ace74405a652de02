"""The two references of the test, both independent of ``mvhg``.

``exact_marginals`` is the law itself, by sums of positive terms in the log domain. ``draw_merged`` is what the paper
compares with: SciPy's univariate law, group after group, the groups still to come merged into one (Eq. 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import nchypergeom_fisher

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def _log_terms(size: int, weight: float) -> Floats:
    """log of C(m, x) omega^x for x = 0..m."""
    x = np.arange(size + 1)
    return np.asarray(gammaln(size + 1) - gammaln(x + 1) - gammaln(size - x + 1) + x * np.log(weight))


def _log_convolve(left: Floats, right: Floats) -> Floats:
    """log of the convolution of exp(left) and exp(right)."""
    total = len(left) + len(right) - 1
    shift = np.arange(total)[:, None] - np.arange(len(left))  # [total, left]: index into right
    inside = (shift >= 0) & (shift < len(right))
    terms = np.where(inside, left + right[shift.clip(0, len(right) - 1)], -np.inf)
    return np.asarray(logsumexp(terms, axis=1))


def exact_marginals(total_count: int, group_sizes: Sequence[int], weights: Sequence[float]) -> list[Floats]:
    """Returns P(X_i = x) for x = 0..m_i, one array per group, of the multivariate noncentral hypergeometric law.

    P(X_i = x) is proportional to C(m_i, x) omega_i^x times the sum over the other groups' terms that add up to n - x.
    """
    terms = [_log_terms(size, weight) for size, weight in zip(group_sizes, weights, strict=True)]
    marginals = []
    for group, own in enumerate(terms):
        others = np.zeros(1)
        for index, other in enumerate(terms):
            if index != group:
                others = _log_convolve(others, other)
        rest = total_count - np.arange(len(own))  # what the other groups hold
        inside = (rest >= 0) & (rest < len(others))
        log_pmf = np.where(inside, own + others[rest.clip(0, len(others) - 1)], -np.inf)
        marginals.append(np.exp(log_pmf - logsumexp(log_pmf)))
    return marginals


def draw_merged(
    total_count: int,
    group_sizes: Sequence[int],
    weights: Sequence[float],
    draws: int,
    generator: np.random.Generator,
) -> Integers:
    """Draws counts [draws, groups] from the paper's merged conditionals, in the order in which the groups stand.

    Group i is drawn from the univariate law against one group that merges all later ones: size sum m_j, weight
    sum omega_j m_j / sum m_j over j > i.
    """
    sizes, omega = np.asarray(group_sizes), np.asarray(weights, dtype=np.float64)
    remaining = np.full(draws, total_count)
    counts = np.zeros((draws, len(sizes)), dtype=np.int64)
    for group in range(len(sizes) - 1):
        later = sizes[group + 1 :]
        merged_size = later.sum()
        odds = omega[group] * merged_size / (omega[group + 1 :] * later).sum()
        for left in np.unique(remaining):  # SciPy draws fast only where the parameters are the same
            chosen = remaining == left
            law = nchypergeom_fisher(M=sizes[group] + merged_size, n=sizes[group], N=left, odds=odds)
            counts[chosen, group] = law.rvs(size=chosen.sum(), random_state=generator)
        remaining = remaining - counts[:, group]
    counts[:, -1] = remaining
    return counts
