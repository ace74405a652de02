"""The NumPy side: the same FFT products without this project's library, and a reference law by direct convolution."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logsumexp


def _log_binomial_coefficients(size: int) -> np.ndarray:
    x = np.arange(size + 1)
    coefficients: np.ndarray = gammaln(size + 1) - gammaln(x + 1) - gammaln(size - x + 1)
    return coefficients


def log_partition(total_count: int, group_sizes: list[int], log_weights: list[float], one_by_one: bool) -> float:
    """log [z^n] prod_j (1 + w_j z)^m_j by float64 FFTs of binomials tilted to a mean total of n.

    Args:
        total_count: n, strictly between 0 and the sum of the group sizes.
        group_sizes: m_1 .. m_c.
        log_weights: log w_1 .. log w_c.
        one_by_one: multiply group after group, which yields the law of every partial sum on the way (what a sampler
            needs), rather than all the spectra at once (enough for the coefficient alone).
    """
    sizes, log_w = np.asarray(group_sizes), np.asarray(log_weights, dtype=float)
    bound = np.abs(log_w).max() + np.log(sizes.sum() + 1.0)
    tilt = brentq(lambda t: float(sizes @ expit(log_w + t)) - total_count, -bound, bound, xtol=1e-13)
    length = total_count + 1
    transform = 1 << (2 * length - 2).bit_length()
    factors, log_zero_probability = [], 0.0
    for size, logit in zip(sizes, log_w + tilt, strict=True):
        # Binomial(m, p): with log(1 - p) = -log(1 + exp(logit)).
        log_all_fail = -size * np.logaddexp(0.0, logit)
        log_zero_probability += log_all_fail
        x = np.arange(min(size, total_count) + 1)
        factors.append(np.exp(_log_binomial_coefficients(size)[: len(x)] + x * logit + log_all_fail))
    if one_by_one:
        partial_sum = factors[-1]
        for factor in factors[-2::-1]:
            product = np.fft.rfft(partial_sum, transform) * np.fft.rfft(factor, transform)
            partial_sum = np.fft.irfft(product, transform)[:length]
        probability = partial_sum[total_count]
    else:
        # The whole convolution must fit in the transform, or its end would wrap round onto the wanted entry.
        transform = 1 << int(sum(len(factor) - 1 for factor in factors)).bit_length()
        spectrum = np.prod([np.fft.rfft(factor, transform) for factor in factors], axis=0)
        probability = np.fft.irfft(spectrum, transform)[total_count]
    return float(np.log(probability) - total_count * tilt - log_zero_probability)


def conditional_laws(total_count: int, group_sizes: list[int], weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The exact conditionals of an urn of three groups, by convolution of log weights in float64.

    Returns:
        p(x_1), shape [m_1 + 1], and p(x_2 | x_1), shape [m_1 + 1, m_2 + 1]; a row of zeros stands where x_1 can't
        occur.
    """
    first, second, third = (
        _log_binomial_coefficients(size) + np.arange(size + 1) * np.log(weight)
        for size, weight in zip(group_sizes, weights, strict=True)
    )
    x_1 = np.arange(group_sizes[0] + 1)[:, None]
    x_2 = np.arange(group_sizes[1] + 1)[None, :]
    x_3 = total_count - x_1 - x_2
    possible = (x_3 >= 0) & (x_3 <= group_sizes[2])
    log_pair = np.where(possible, second + third[np.clip(x_3, 0, group_sizes[2])], -np.inf)  # [m_1 + 1, m_2 + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_rest = logsumexp(log_pair, axis=1)
        conditional = np.where(np.isfinite(log_rest)[:, None], np.exp(log_pair - log_rest[:, None]), 0.0)
    marginal = np.exp(first + log_rest - logsumexp(first + log_rest))
    return marginal, conditional
