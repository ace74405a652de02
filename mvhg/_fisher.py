"""Closed-form quantities of Fisher's law: normaliser, log-probabilities, divergence and mode.

All functions take and return float64 tensors and are differentiable in the log weights by autograd, to any order. The
tilt is not differentiated: the law does not depend on it. Moments, marginals and entropy stand in files of their own.
"""

import math

import torch
from torch import Tensor

from mvhg._binomial import log_binomial, log_sigmoid
from mvhg._mean import mean as mean_of_many
from mvhg._normaliser import log_mass, log_normaliser, log_weighing
from mvhg._reference import threshold as reaching_weight
from mvhg._urn import MOST_BY_GAMMA, Pair, Urn, not_negative
from mvhg._validation import can_look

# Halvings of the widest bracket down to float64's resolution.
_MODE_STEPS = 55


def log_coefficients(counts: Tensor, size: Tensor) -> Tensor:
    """sum_j log (size_j choose counts_j) less that of the sizes' factorials, for counts within 0..size."""
    return -(torch.lgamma(counts + 1) + torch.lgamma(size - counts + 1)).sum(-1)


def log_partition(urn: Urn, log_weights: Tensor | None = None) -> Tensor:
    """log P_0 = log [z^n] prod_j (1 + omega_j z)^{m_j} (paper Eq. 1).

    Of the urn's log weights, or of ``log_weights`` [..., c], those without the urn's reference taken from them.
    """
    tilt, log_weights = urn.tilt, urn.log_weights if log_weights is None else log_weights
    if log_weights is not urn.log_weights and urn.reference is not None:
        tilt = tilt - urn.reference.squeeze(-1)
    if urn.is_pair:
        pair = Pair(urn)
        counts = torch.cat([pair.mode, pair.total - pair.mode], -1)
        return pair.normaliser + (counts * log_weights).sum(-1) + torch.lgamma(urn.size + 1).sum(-1)
    logits = urn.logits
    # About whole counts near the mean, so that nothing of the size of the tilt times the total has to cancel.
    counts = (urn.size * torch.sigmoid(logits.detach())).round()
    scale = -log_mass(counts, urn.size, logits)
    # The products of whole counts and weights rounded to float32 are exact, and so are most of their sums.
    rounded = log_weights.detach().float().double()
    scale = scale + (counts * rounded).sum(-1) + (counts * (log_weights - rounded)).sum(-1)
    scale = scale + tilt * (counts.sum(-1) - urn.total)
    return log_normaliser(urn) + scale


def _log_factorials(urn: Urn) -> Tensor | float:
    """Of the sizes, their sum."""
    plain = urn.plain(1)
    if plain is None or torch.compiler.is_compiling():
        return torch.lgamma(urn.size + 1).sum(-1)
    return sum(math.lgamma(m + 1) for m in plain[0])


def log_probability(counts: Tensor, urn: Urn, checked: bool = False) -> Tensor:
    """log P(X = counts | sum X = total), for counts [..., c]; -inf where a count is outside 0..size.

    ``checked`` says that none is. The gradient in the counts is that of sum_j log (m_j choose x_j) + x_j log omega_j:
    the tilt is taken out.
    """
    if not checked:
        outside = ~((counts >= 0) & (counts <= urn.size)).all(-1)
        counts = counts.masked_fill(outside.unsqueeze(-1), 0.0)
    if urn.is_pair:
        pair = Pair(urn)
        mode = torch.cat([pair.mode, pair.total - pair.mode], -1)
        value = log_coefficients(counts, urn.size) + ((counts - mode) * urn.log_weights).sum(-1) - pair.normaliser
        return value if checked else value.masked_fill(outside, -math.inf)
    if urn.bounds is not None and urn.bounds.population <= MOST_BY_GAMMA:
        value = log_coefficients(counts, urn.size) + _log_factorials(urn) + log_weighing(urn, counts)
    else:
        value = log_binomial(counts, urn.size, urn.logits).sum(-1)
        value = value - log_normaliser(urn) - urn.tilt * (counts.sum(-1) - urn.total)
    value = urn.in_counts(value, counts)
    return value if checked else value.masked_fill(outside, -math.inf)


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
        pair = Urn.of(pair_size, pair_weights, remaining)
        result = result + log_probability(pair_counts, pair)
        remaining = remaining - counts[..., i]
    last_inside = (counts[..., -1] >= 0) & (counts[..., -1] <= size[..., -1])
    return torch.where(last_inside & ~torch.isnan(result), result, -math.inf)


def divergence(p: Urn, q: Urn) -> Tensor:
    """KL(p || q) [...] for laws with the same sizes and totals."""
    if p.is_pair and q.is_pair:
        first, second = Pair(p), Pair(q)
        return not_negative(first.expect(first.log_pmf - second.log_pmf))
    p, q = p.with_tilt(), q.with_tilt()
    at_p, at_q = p.logits, q.logits
    drawn = mean_of_many(p)
    value = drawn * (log_sigmoid(at_p) - log_sigmoid(at_q))
    value = (value + (p.size - drawn) * (log_sigmoid(-at_p) - log_sigmoid(-at_q))).sum(-1)
    return not_negative(value + log_normaliser(q) - log_normaliser(p))


def mode(urn: Urn) -> Tensor:
    """A most probable count vector [..., c] (not differentiable).

    The log-probability is a sum of concave functions, one a group, so drawing one element at a time from the group
    with the largest gain log omega_i + log((m_i - x) / (x + 1)) is optimal; the number of gains above a threshold is
    closed-form, so the threshold is found by bisection and ties at it are shared out by rank.
    """
    with torch.no_grad():
        if urn.is_pair:
            first = Pair(urn).mode
            return torch.cat([first, urn.total.unsqueeze(-1) - first], -1)
        size, total = urn.size, urn.total
        log_weights = urn.log_weights - reaching_weight(size, urn.log_weights, total)

        def counts_above(threshold: Tensor) -> Tensor:
            return torch.minimum(((size + 1) * torch.sigmoid(log_weights - threshold.unsqueeze(-1))).floor(), size)

        # At the lower end the group that reaches the total, and all before it, are whole, at the upper one it is left.
        high = torch.log(size.amax(-1) + 2) + 1
        low = -high
        looking = can_look(size, log_weights, total)
        for _ in range(_MODE_STEPS):
            # Once no group has more than one gain between the two, ranking these gains decides.
            if looking and bool((counts_above(low) - counts_above(high) <= 1).all()):
                break
            middle = 0.5 * (low + high)
            fits = counts_above(middle).sum(-1) <= total
            low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
        counts = counts_above(high)
        missing = (total - counts.sum(-1)).unsqueeze(-1)
        # More than one a group where gains are closer to one another than a threshold can be told from the next.
        room = counts_above(low) - counts
        gain = torch.where(room > 0, log_weights + ((size - counts) / (counts + 1)).log(), -math.inf)
        order = gain.argsort(dim=-1, descending=True, stable=True)
        room = room.gather(-1, order)
        filled = (missing - (room.cumsum(-1) - room)).clamp(min=0).minimum(room)
        return counts.scatter_add(-1, order, filled)
