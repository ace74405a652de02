"""Laws of the single counts, float64, differentiable in the log weights to any order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mvhg._bernoulli_sum import log_sum_probability
from mvhg._binomial import log_binomial
from mvhg._urn import Pair, Urn, in_chunks, log_factors
from mvhg._validation import can_look

# Up to this many draws the other groups' laws are convolved, beyond it each of their values is an inversion of its own.
_MOST_CONVOLVED = 1024
# Stands for the logarithm of 0 where infinities would make NaN of a gradient.
_LOG_ZERO = -1e30
# exp(-650): a sum of positive terms above it has lost nothing to underflow that counts.
_LEAST = 1e-282


def marginal_log_probabilities(urn: Urn) -> Tensor:
    """log P(X_i = x) for every group and x = 0..M, M the largest size, [..., c, M + 1]; -inf outside the support."""
    assert urn.bounds is not None
    groups = urn.size.shape[-1]
    if urn.is_pair:
        first = Pair(urn).log_pmf
        # The second group has x where the first one has total - x.
        mirrored = urn.total.unsqueeze(-1) - torch.arange(urn.width, dtype=torch.float64, device=first.device)
        inside = (mirrored >= 0) & (mirrored < urn.width)
        index = torch.where(inside, mirrored, 0.0).long().expand_as(first)
        value = torch.stack([first, torch.where(inside, first.gather(-1, index), -math.inf)], -2)
    else:
        x = torch.arange(urn.width, dtype=torch.float64, device=urn.log_weights.device)
        own, rest = log_factors(urn, x), urn.total[..., None, None] - x
        if groups == 1:
            value = torch.where(rest == 0, 0.0, -math.inf) + 0 * urn.log_weights.unsqueeze(-1)
        else:
            if groups == 2:
                others = log_binomial(rest, urn.size.flip(-1).unsqueeze(-1), urn.logits.flip(-1).unsqueeze(-1))
            elif urn.bounds.total <= _MOST_CONVOLVED:
                others = in_chunks(_convolved_others, urn, urn.bounds.total * urn.width)
            else:
                each = [_inverted_others(urn, i, rest.squeeze(-2)) for i in range(groups)]
                others = torch.stack(each, -2)
            value = own + others - urn.spectrum().probability.log()[..., None, None]
    return torch.nn.functional.pad(value, (0, urn.bounds.group + 1 - urn.width), value=-math.inf)


def _inverted_others(urn: Urn, group: int, rest: Tensor) -> Tensor:
    """log P(sum of the groups but one = rest) under the tilt, for rest [..., W]."""
    size, logits = (torch.cat([a[..., :group], a[..., group + 1 :]], -1) for a in (urn.size, urn.logits))
    return log_sum_probability(size.unsqueeze(-2), logits.unsqueeze(-2), rest)


def _convolved_others(urn: Urn) -> Tensor:
    """log P(sum of the other groups = total - x) under the tilt for x = 0..width - 1, [..., c, width].

    Sums of positive terms, which do not cancel: first the laws of the sums of the groups
    before and after each one, then of both together.
    """
    assert urn.bounds is not None
    factors = log_factors(urn, torch.arange(urn.width, dtype=torch.float64, device=urn.size.device))
    others = (urn.size.sum(-1, keepdim=True) - urn.size).unsqueeze(-1)
    # [..., 1, width]: the entries total - x of the others' laws.
    at = urn.total[..., None, None] - torch.arange(urn.width, dtype=torch.float64, device=urn.size.device)
    possible = (at >= 0) & (at <= others)
    if can_look(factors):
        # Without logarithms, a tenth of the time, unless something underflows.
        result = _others(factors.exp(), at, urn.bounds.total + 1, _convolve, 0.0)
        if not bool((possible & (result < _LEAST)).any()):
            return torch.where(possible, torch.where(possible, result, 1.0).log(), -math.inf)
    result = _others(factors.clamp(min=_LOG_ZERO), at, urn.bounds.total + 1, _log_convolve, _LOG_ZERO)
    return torch.where(possible, result, -math.inf)


def _others(
    factors: Tensor, at: Tensor, length: int, convolve: Callable[[Tensor, Tensor], Tensor], zero: float
) -> Tensor:
    """Entries ``at`` [..., 1, W] of each group's convolution of all the others' factors [..., c, W]: [..., c, W]."""
    own, groups = factors.unbind(-2), factors.shape[-2]
    pad = (0, length - factors.shape[-1])
    prefixes = [torch.nn.functional.pad(own[0], pad, value=zero)]  # of groups 0..i
    suffixes = [torch.nn.functional.pad(own[-1], pad, value=zero)]  # of groups c-1-i..c-1
    for i in range(1, groups - 1):
        prefixes.append(convolve(prefixes[-1], own[i]))
        suffixes.append(convolve(suffixes[-1], own[-1 - i]))
    middle = [convolve(prefixes[i - 1], suffixes[groups - 2 - i]) for i in range(1, groups - 1)]
    laws = torch.stack([suffixes[-1], *middle, prefixes[-1]], -2)
    return laws.gather(-1, at.clamp(min=0).long().expand(*laws.shape[:-1], -1))


def _windows(values: Tensor, width: int, zero: float) -> Tensor:
    """Entries s - width + 1..s of values [..., V] for every s, a view [..., V, width]."""
    return torch.nn.functional.pad(values, (width - 1, 0), value=zero).unfold(-1, width, 1)


def _convolve(values: Tensor, other: Tensor) -> Tensor:
    """sum_t values[s - t] other[t] for s = 0..len(values) - 1."""
    return (_windows(values, other.shape[-1], 0.0) @ other.flip(-1).unsqueeze(-1)).squeeze(-1)


def _log_convolve(values: Tensor, other: Tensor) -> Tensor:
    """log sum_t exp(values[s - t] + other[t]) for s = 0..len(values) - 1."""
    return torch.logsumexp(_windows(values, other.shape[-1], _LOG_ZERO) + other.flip(-1).unsqueeze(-2), -1)
