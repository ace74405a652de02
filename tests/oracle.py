"""Reference values for Fisher's multivariate noncentral hypergeometric law, written without the library.

Three routes that share no code path with ``mvhg`` and little with one another:

* ``enumerate_law``: the whole support in exact rational arithmetic (``fractions.Fraction``), to ``MAX_SUPPORT`` points.
  Every float weight is a rational number, so nothing is rounded before the final logarithm.
* ``log_marginals``: direct convolution in the log domain, sums of positive terms only, hence accurate in the tails.
* ``TiltedLaw``: independent binomials on windows that hold all but exp(-80) of the mass, convolved directly in double
  precision, with ``mpmath`` for the large terms that cancel. For urns of millions.

Also the paper's merged conditionals (Eq. 3), again as exact rationals.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logsumexp

MAX_SUPPORT = 5_000


def log_fraction(value: Fraction) -> float:
    """Natural logarithm of a non-negative rational of any size, to double precision."""
    if value == 0:
        return -math.inf
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    mantissa = value / Fraction(2) ** exponent
    if exponent in (-1, 0, 1):  # near 1 the logarithm needs the difference from 1, taken before rounding
        return math.log1p(float(value - 1)) if abs(value - 1) < Fraction(1, 2) else math.log(float(value))
    return math.log(float(mantissa)) + exponent * math.log(2.0)


def rational_weights(log_weights: Sequence[float]) -> list[Fraction]:
    return [Fraction(math.exp(value)) for value in log_weights]


def enumerate_counts(total_count: int, group_sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All counts with 0 <= x_i <= m_i and sum n, in lexicographic order."""
    if len(group_sizes) == 1:
        if 0 <= total_count <= group_sizes[0]:
            yield (total_count,)
        return
    rest = sum(group_sizes[1:])
    for first in range(max(0, total_count - rest), min(group_sizes[0], total_count) + 1):
        for others in enumerate_counts(total_count - first, group_sizes[1:]):
            yield (first, *others)


@dataclass(frozen=True)
class EnumeratedLaw:
    """Exact tables; ``support`` is [points, groups], ``log_pmf`` [points], ``log_marginals`` [groups, max size + 1]."""

    support: np.ndarray
    pmf: np.ndarray
    log_pmf: np.ndarray
    log_partition: float
    mean: np.ndarray
    covariance: np.ndarray
    entropy: float
    log_marginals: np.ndarray

    def expectation(self, values: np.ndarray) -> np.ndarray:
        """E[f(x)] from the values of f on the support."""
        return self.pmf @ values


def _law_from_masses(
    support: list[tuple[int, ...]], masses: list[Fraction], group_sizes: Sequence[int]
) -> EnumeratedLaw:
    total = sum(masses, Fraction(0))
    probabilities = [mass / total for mass in masses]
    groups = range(len(group_sizes))
    mean = [sum((p * x[i] for p, x in zip(probabilities, support)), Fraction(0)) for i in groups]
    second = {
        (i, j): sum((p * x[i] * x[j] for p, x in zip(probabilities, support)), Fraction(0))
        for i, j in itertools.combinations_with_replacement(groups, 2)
    }
    covariance = np.array([[float(second[min(i, j), max(i, j)] - mean[i] * mean[j]) for j in groups] for i in groups])
    marginals = [[Fraction(0)] * (max(group_sizes) + 1) for _ in groups]
    for p, x in zip(probabilities, support):
        for i in groups:
            marginals[i][x[i]] += p
    pmf = np.array([float(p) for p in probabilities])
    log_pmf = np.array([log_fraction(p) for p in probabilities])
    return EnumeratedLaw(
        support=np.array(support, dtype=np.int64).reshape(len(support), len(group_sizes)),
        pmf=pmf,
        log_pmf=log_pmf,
        log_partition=log_fraction(total),
        mean=np.array([float(value) for value in mean]),
        covariance=covariance,
        entropy=-math.fsum(p * lp for p, lp in zip(pmf, log_pmf) if p > 0),
        log_marginals=np.array([[log_fraction(value) for value in row] for row in marginals]),
    )


def _checked_support(total_count: int, group_sizes: Sequence[int]) -> list[tuple[int, ...]]:
    support = list(itertools.islice(enumerate_counts(total_count, group_sizes), MAX_SUPPORT + 1))
    if len(support) > MAX_SUPPORT:
        raise ValueError(f"support of more than {MAX_SUPPORT} points: use TiltedLaw")
    return support


@functools.cache
def enumerate_law(total_count: int, group_sizes: tuple[int, ...], log_weights: tuple[float, ...]) -> EnumeratedLaw:
    """The exact law (paper Eq. 1) by enumeration of its support."""
    support = _checked_support(total_count, group_sizes)
    weights = rational_weights(log_weights)
    masses = [
        math.prod((math.comb(m, k) * w**k for k, m, w in zip(x, group_sizes, weights)), start=Fraction(1))
        for x in support
    ]
    return _law_from_masses(support, masses, group_sizes)


@functools.cache
def merged_law(
    total_count: int, group_sizes: tuple[int, ...], log_weights: tuple[float, ...], group_order: tuple[int, ...]
) -> EnumeratedLaw:
    """The product of the paper's merged univariate conditionals (Eqs. 2-4), classes taken in ``group_order``."""
    support = _checked_support(total_count, group_sizes)
    weights = rational_weights(log_weights)

    @functools.cache
    def conditional(position: int, remaining: int) -> dict[int, Fraction]:
        left, right = group_order[position], group_order[position + 1 :]
        right_size = sum(group_sizes[j] for j in right)
        right_weight = Fraction(1)  # with nothing on the right its power is the zeroth
        if right_size:
            right_weight = sum((weights[j] * group_sizes[j] for j in right), Fraction(0)) / right_size
        masses = {
            k: math.comb(group_sizes[left], k)
            * weights[left] ** k
            * math.comb(right_size, remaining - k)
            * right_weight ** (remaining - k)
            for k in range(max(0, remaining - right_size), min(group_sizes[left], remaining) + 1)
        }
        total = sum(masses.values(), Fraction(0))
        return {k: mass / total for k, mass in masses.items()}

    probabilities = []
    for x in support:
        probability, remaining = Fraction(1), total_count
        for position, group in enumerate(group_order):
            probability *= conditional(position, remaining)[x[group]]
            remaining -= x[group]
        probabilities.append(probability)
    return _law_from_masses(support, probabilities, group_sizes)


def log_convolve(a: np.ndarray, b: np.ndarray, length: int) -> np.ndarray:
    """First ``length`` entries of log(exp(a) * exp(b)), by logsumexp in blocks of bounded memory."""
    if len(a) < len(b):
        a, b = b, a
    padded = np.full(length + len(b) - 1, -np.inf)
    used = min(len(a), length)
    padded[len(b) - 1 : len(b) - 1 + used] = a[:used]
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(b))  # [length, len(b)]
    rows = max(1, 4_000_000 // len(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        blocks = [logsumexp(windows[i : i + rows] + b[::-1], axis=1) for i in range(0, length, rows)]
    return np.concatenate(blocks)


def tilt(total_count: int, group_sizes: Sequence[int], log_weights: Sequence[float]) -> float:
    """log t with sum_j m_j p_j = n; for 0 < n < N. Every identity used here holds for any t, so no care on plateaus."""
    sizes = np.array(group_sizes, dtype=float)
    logits = np.array(log_weights, dtype=float)[sizes > 0]
    sizes = sizes[sizes > 0]
    reach = 60.0 + math.log(sizes.sum())
    return brentq(
        lambda s: float(sizes @ expit(logits + s)) - total_count,
        -logits.max() - reach,
        -logits.min() + reach,
        xtol=1e-12,
    )


@functools.cache
def log_marginals(total_count: int, group_sizes: tuple[int, ...], log_weights: tuple[float, ...]) -> np.ndarray:
    """Marginal log pmfs over the whole support, [groups, max size + 1], by leave-one-out log-domain convolution."""
    groups, n = len(group_sizes), total_count
    shift = tilt(n, group_sizes, log_weights) if 0 < n < sum(group_sizes) else 0.0
    terms = []
    for m, log_weight in zip(group_sizes, log_weights):
        k = np.arange(m + 1.0)
        logits = gammaln(m + 1.0) - gammaln(k + 1.0) - gammaln(m - k + 1.0) + k * (log_weight + shift)
        terms.append(logits - logits.max())
    before, after = [np.zeros(1)], [np.zeros(1)]
    for i in range(groups - 1):
        before.append(log_convolve(before[-1], terms[i], min(n + 1, len(before[-1]) + len(terms[i]) - 1)))
        last = terms[groups - 1 - i]
        after.append(log_convolve(after[-1], last, min(n + 1, len(after[-1]) + len(last) - 1)))
    result = np.full((groups, max(group_sizes) + 1), -np.inf)
    for i in range(groups):
        others = log_convolve(before[i], after[groups - 1 - i], n + 1)
        k = np.arange(min(group_sizes[i], n) + 1)
        logits = terms[i][k] + others[n - k]
        result[i, k] = logits - logsumexp(logits)
    return result


def _trimmed(low: int, values: np.ndarray) -> tuple[int, np.ndarray]:
    """Drops ends that are less than 1e-130 of the largest magnitude."""
    kept = np.flatnonzero(np.abs(values) > 1e-130 * np.abs(values).max())
    return low + int(kept[0]), values[kept[0] : kept[-1] + 1]


Window = tuple[int, np.ndarray]


def _convolve(a: Window, b: Window) -> Window:
    return _trimmed(a[0] + b[0], np.convolve(a[1], b[1]))


def _value(window: Window, at: np.ndarray) -> np.ndarray:
    inside = (at >= window[0]) & (at < window[0] + len(window[1]))
    return np.where(inside, window[1][np.clip(at - window[0], 0, len(window[1]) - 1)], 0.0)


class TiltedLaw:
    """Moments, entropy and log probabilities of an urn of any size from binomials tilted to sum to n in the mean."""

    def __init__(self, total_count: int, group_sizes: Sequence[int], log_weights: Sequence[float]) -> None:
        self.total_count, self.group_sizes, self.log_weights = total_count, tuple(group_sizes), tuple(log_weights)
        self.groups = len(self.group_sizes)
        self.degenerate = total_count in (0, sum(self.group_sizes))
        if self.degenerate:
            return
        self.shift = tilt(total_count, self.group_sizes, self.log_weights)
        self.log_pmfs: list[Window] = [
            self._window(m, w + self.shift) for m, w in zip(self.group_sizes, self.log_weights)
        ]
        self.pmfs: list[Window] = [(low, np.exp(values)) for low, values in self.log_pmfs]

    @staticmethod
    def _window(size: int, logit: float) -> Window:
        p = expit(logit)
        mode = min(int((size + 1) * p), size)
        # 13 standard deviations, or 120 steps of a Poisson-like tail: below exp(-80) of the mode in both cases
        radius = 120 + int(13 * math.sqrt(size * p * expit(-logit)))
        low, high = max(0, mode - radius), min(size, mode + radius)
        k = np.arange(low, high, dtype=float)
        # ratios of neighbours summed outwards from the mode: no large log factorials that would cancel
        steps = np.log((size - k) / (k + 1.0)) + logit
        at = mode - low
        values = np.concatenate([-np.cumsum(steps[:at][::-1])[::-1], [0.0], np.cumsum(steps[at:])])
        return low, values - logsumexp(values)

    @functools.cached_property
    def log_partition_mp(self) -> mpmath.mpf:
        """log [z^n] prod_j (1 + omega_j z)^m_j in extended precision."""
        with mpmath.workdps(40):
            if self.total_count == 0:
                return mpmath.mpf(0)
            if self.degenerate:
                return mpmath.fsum(m * mpmath.mpf(w) for m, w in zip(self.group_sizes, self.log_weights))
            shift = mpmath.mpf(self.shift)
            terms = [m * mpmath.log1p(mpmath.exp(shift + w)) for m, w in zip(self.group_sizes, self.log_weights)]
            return mpmath.fsum(terms) - self.total_count * shift + mpmath.log(self.sum_probability)

    @property
    def log_partition(self) -> float:
        return float(self.log_partition_mp)

    @functools.cached_property
    def sum_probability(self) -> float:
        """P(sum of the tilted binomials = n)."""
        return float(_value(functools.reduce(_convolve, self.pmfs), np.array(self.total_count)))

    @staticmethod
    def _leave_one_out(windows: list[Window]) -> list[Window]:
        unit = (0, np.ones(1))
        before = list(itertools.accumulate(windows[:-1], _convolve, initial=unit))
        after = list(itertools.accumulate(windows[:0:-1], _convolve, initial=unit))[::-1]
        return [_convolve(a, b) for a, b in zip(before, after)]

    @functools.cached_property
    def marginals(self) -> list[Window]:
        """Marginal pmfs (not logs) on the windows."""
        n, result = self.total_count, []
        for (low, pmf), others in zip(self.pmfs, self._leave_one_out(self.pmfs)):
            values = pmf * _value(others, n - np.arange(low, low + len(pmf)))
            result.append((low, values / values.sum()))
        return result

    @functools.cached_property
    def mean(self) -> np.ndarray:
        if self.degenerate:
            return np.array(self.group_sizes, dtype=float) * (self.total_count > 0)
        return np.array([float(values @ np.arange(low, low + len(values))) for low, values in self.marginals])

    @functools.cached_property
    def covariance(self) -> np.ndarray:
        """E[(x_i - mu_i)(x_j - mu_j)]: centred before summation, so that nothing large cancels."""
        result = np.zeros((self.groups, self.groups))
        if self.degenerate:
            return result
        centred = [np.arange(low, low + len(pmf)) - mu for (low, pmf), mu in zip(self.pmfs, self.mean)]
        for i in range(self.groups):
            if self.group_sizes[i] == 0:
                continue
            result[i, i] = float(self.marginals[i][1] @ centred[i] ** 2)
            windows = list(self.pmfs)
            windows[i] = (windows[i][0], windows[i][1] * centred[i])
            for j, others in enumerate(self._leave_one_out(windows)):
                if j != i:
                    low, pmf = self.pmfs[j]
                    at = self.total_count - np.arange(low, low + len(pmf))
                    result[i, j] = float((pmf * centred[j]) @ _value(others, at)) / self.sum_probability
        return result

    @functools.cached_property
    def entropy(self) -> float:
        if self.degenerate:
            return 0.0
        expected = [float(marginal @ log_pmf) for (_, marginal), (_, log_pmf) in zip(self.marginals, self.log_pmfs)]
        return math.log(self.sum_probability) - math.fsum(expected)

    def log_prob(self, counts: Sequence[int | float]) -> float:
        """log p(x) with the gamma function's extension to fractional counts."""
        with mpmath.workdps(40):
            terms = [
                mpmath.loggamma(m + 1)
                - mpmath.loggamma(mpmath.mpf(float(x)) + 1)
                - mpmath.loggamma(m - mpmath.mpf(float(x)) + 1)
                + mpmath.mpf(float(x)) * w
                for x, m, w in zip(counts, self.group_sizes, self.log_weights)
            ]
            return float(mpmath.fsum(terms) - self.log_partition_mp)

    def marginal_log_prob(self, group: int, count: int) -> float:
        """log P(x_group = count) anywhere in the support: the other groups' partition function at n - count."""
        m, w = self.group_sizes[group], self.log_weights[group]
        others = [j for j in range(self.groups) if j != group]
        sizes, rest = [self.group_sizes[j] for j in others], self.total_count - count
        if not 0 <= count <= m or not 0 <= rest <= sum(sizes):
            return -math.inf
        with mpmath.workdps(40):
            own = mpmath.loggamma(m + 1) - mpmath.loggamma(count + 1) - mpmath.loggamma(m - count + 1)
            remainder = TiltedLaw(rest, sizes, [self.log_weights[j] for j in others]).log_partition_mp if others else 0
            return float(own + count * mpmath.mpf(w) + remainder - self.log_partition_mp)


@functools.cache
def tilted_law(total_count: int, group_sizes: tuple[int, ...], log_weights: tuple[float, ...]) -> TiltedLaw:
    return TiltedLaw(total_count, group_sizes, log_weights)
