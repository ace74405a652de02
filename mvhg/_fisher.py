"""Closed-form quantities of Fisher's law: normaliser, log-probabilities, marginals, moments and mode.

All functions take and return float64 tensors and are differentiable in ``log_weights`` by autograd. The tilt is not
differentiated: the law does not depend on it.
"""

import math

import torch
from torch import Tensor

from mvhg._bernoulli_sum import conditional_moments, log_sum_probability, solve_tilt
from mvhg._binomial import log_binomial, log_sigmoid

# Below this mean, moments about the mean of the tilted binomial lose digits relative to their size.
_RARE_MEAN = 0.1


def log_partition(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """log P_0 = log [z^n] prod_j (1 + omega_j z)^{m_j} (paper Eq. 1); sizes and weights [..., c], total [...]."""
    tilt = solve_tilt(size, log_weights, total)
    logits = log_weights + tilt.unsqueeze(-1)
    scale = -(size * log_sigmoid(-logits)).sum(-1) - total * tilt
    return log_sum_probability(size, logits, total, tilted=True) + scale


def log_probability(counts: Tensor, size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """log P(X = counts | sum X = total), for counts [..., c]; -inf where a count is outside 0..size."""
    tilt = solve_tilt(size, log_weights, total)
    logits = log_weights + tilt.unsqueeze(-1)
    return log_binomial(counts, size, logits).sum(-1) - log_sum_probability(size, logits, total, tilted=True)


def merged_log_weight(size: Tensor, log_weights: Tensor) -> Tensor:
    """Log weight of the class that replaces the groups in the last dimension (paper Eq. 3); 0 if all are empty."""
    log_size = size.log()
    empty = size.sum(-1) == 0
    merged = torch.logsumexp(torch.where(empty.unsqueeze(-1), 0.0, log_weights + log_size), -1)
    return torch.where(empty, 0.0, merged - size.sum(-1).clamp(min=1).log())


def merged_log_probability(
    counts: Tensor, size: Tensor, log_weights: Tensor, total: Tensor, order: tuple[int, ...]
) -> Tensor:
    """Log-probability under the paper's sampler (Alg. 1): univariate conditionals with the later groups merged."""
    index = list(order)
    counts, size, log_weights = torch.broadcast_tensors(counts[..., index], size[..., index], log_weights[..., index])
    remaining = total.expand(counts.shape[:-1])
    result = torch.zeros_like(remaining)
    for i in range(len(order) - 1):
        rest = merged_log_weight(size[..., i + 1 :], log_weights[..., i + 1 :])
        pair_size = torch.stack([size[..., i], size[..., i + 1 :].sum(-1)], -1)
        pair_weights = torch.stack([log_weights[..., i], rest], -1)
        pair_counts = torch.stack([counts[..., i], remaining - counts[..., i]], -1)
        result = result + log_probability(pair_counts, pair_size, pair_weights, remaining)
        remaining = remaining - counts[..., i]
    last_inside = (counts[..., -1] >= 0) & (counts[..., -1] <= size[..., -1])
    return torch.where(last_inside & ~torch.isnan(result), result, -math.inf)


def marginal_log_probabilities(size: Tensor, log_weights: Tensor, total: Tensor, largest: int) -> Tensor:
    """log P(X_i = x) for every group and x = 0..largest, [..., c, largest + 1]; -inf outside the support."""
    tilt = solve_tilt(size, log_weights, total)
    logits = log_weights + tilt.unsqueeze(-1)
    groups = size.shape[-1]
    width = min(largest, int(total.max())) + 1 if total.numel() else largest + 1
    x = torch.arange(width, dtype=size.dtype, device=size.device)
    own = log_binomial(x, size.unsqueeze(-1), logits.unsqueeze(-1))  # [..., c, width]
    others = size.unsqueeze(-2) * (1 - torch.eye(groups, dtype=size.dtype, device=size.device))  # [..., c, c]
    rest = log_sum_probability(
        others.unsqueeze(-2), logits.unsqueeze(-2).unsqueeze(-2), total[..., None, None] - x
    )  # [..., c, width]
    value = own + rest - log_sum_probability(size, logits, total, tilted=True)[..., None, None]
    return torch.nn.functional.pad(value, (0, largest + 1 - width), value=-math.inf)


def mean(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """Mean [..., c]; that of a rarely drawn group is accurate relative to its size."""
    logits = log_weights + solve_tilt(size, log_weights, total).unsqueeze(-1)
    mean, _ = conditional_moments(size, logits, total, joint=False)
    return torch.where(mean.detach() < _RARE_MEAN, _factorial_moment(size, logits, total, 1), mean)


def variance(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """Variance [..., c]; that of a rarely drawn group is accurate relative to its size."""
    logits = log_weights + solve_tilt(size, log_weights, total).unsqueeze(-1)
    mean, variance = conditional_moments(size, logits, total, joint=False)
    first, second = (_factorial_moment(size, logits, total, order) for order in (1, 2))
    return torch.where(mean.detach() < _RARE_MEAN, second + first - first.square(), variance).clamp(min=0)


def covariance(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """Covariance matrix [..., c, c]."""
    tilt = solve_tilt(size, log_weights, total)
    return conditional_moments(size, log_weights + tilt.unsqueeze(-1), total, joint=True)[1]


def _factorial_moment(size: Tensor, logits: Tensor, total: Tensor, order: int) -> Tensor:
    """E[X_i] or, with order 2, E[X_i (X_i - 1)], from the chances of sums that lack one or two elements, [..., c].

    E[X_i] = m_i p_i P(S - one of group i = n - 1) / P(S = n): each factor is accurate relative to itself. The logits
    are tilted, E[S] = total.
    """
    one = torch.eye(size.shape[-1], dtype=size.dtype, device=size.device)
    normaliser = log_sum_probability(size, logits, total, tilted=True).unsqueeze(-1)
    left = (size.unsqueeze(-2) - order * one).clamp(min=0)
    chance = log_sum_probability(left, logits.unsqueeze(-2), total.unsqueeze(-1) - order)
    enough = (size >= order) & (chance > -math.inf)
    product = size if order == 1 else size * (size - 1)
    log_moment = torch.where(enough, product, 1.0).log() + order * log_sigmoid(logits)
    return torch.where(enough, (log_moment + torch.where(enough, chance, 0.0) - normaliser).exp(), 0.0)


def entropy(size: Tensor, log_weights: Tensor, total: Tensor, largest: int) -> Tensor:
    """-E[log p(X)] in nats, from the marginals alone: log p splits into one term a group and the normaliser."""
    tilt = solve_tilt(size, log_weights, total)
    logits = log_weights + tilt.unsqueeze(-1)
    marginals = marginal_log_probabilities(size, log_weights, total, largest)
    x = torch.arange(largest + 1, dtype=size.dtype, device=size.device)
    terms = log_binomial(x, size.unsqueeze(-1), logits.unsqueeze(-1))
    possible = marginals > -math.inf
    # exp before where: a gradient through 0 * -inf would be NaN.
    expected = (marginals.exp() * torch.where(possible, terms, 0.0)).sum((-1, -2))
    return log_sum_probability(size, logits, total, tilted=True) - expected


def mode(size: Tensor, log_weights: Tensor, total: Tensor) -> Tensor:
    """A most probable count vector [..., c] (not differentiable).

    The log-probability is a sum of concave functions, one a group, so drawing one element at a time from the group
    with the largest gain log omega_i + log((m_i - x) / (x + 1)) is optimal; the number of gains above a threshold is
    closed-form, so the threshold is found by bisection and ties at it are shared out by rank.
    """
    with torch.no_grad():

        def counts_above(threshold: Tensor) -> Tensor:
            return torch.minimum(((size + 1) * torch.sigmoid(log_weights - threshold.unsqueeze(-1))).floor(), size)

        reach = torch.log(size.amax(-1) + 2)
        low, high = log_weights.amin(-1) - reach - 1, log_weights.amax(-1) + reach + 1  # everything; nothing
        for _ in range(100):
            middle = 0.5 * (low + high)
            fits = counts_above(middle).sum(-1) <= total
            low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
        counts = counts_above(high)
        missing = total - counts.sum(-1)
        gain = torch.where(counts < size, log_weights + ((size - counts) / (counts + 1)).log(), -math.inf)
        rank = gain.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return counts + (rank < missing.unsqueeze(-1)).to(counts.dtype)
